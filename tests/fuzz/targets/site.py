"""What a Mattermost site says to a job: events of its WebSocket, and answers of its API."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from types import SimpleNamespace
from typing import Any, cast

import httpx

from callclient.client import CallClient
from callclient.plugin_api import ApiError, PluginApi
from callclient.signaling.server_clock import ServerClock
from callclient.signaling.translate import Translator
from callclient.signaling.wire import (
    ACTION_PREFIX,
    WireError,
    WireEvent,
    WireReply,
    parse_frame,
    whole_number,
)
from callclient.state import CallState
from foundation.logs import get_logger
from rtc.turn.servers import read_servers
from tests.fuzz.loop import LOOP
from tests.fuzz.target import Target, check_text, joined, pieces

_CHANNEL = "channel"
_MOST_EVENTS_PER_BYTE = 8


class _Media:
    """Takes what a signal says; `rtc` reads it, which another target does."""

    async def candidate_received(self, line: str) -> None:
        assert isinstance(line, str)

    def description_received(self, kind: str, text: str) -> None:
        assert kind in ("offer", "answer")
        assert isinstance(text, str)


async def _frames(frames: list[bytes]) -> None:
    """One connection, as `callclient.signaling.connection` reads it."""
    state = CallState()
    translator = Translator(channel_id=_CHANNEL, job_id="job", state=state)
    clock = ServerClock()
    client = cast(CallClient, SimpleNamespace(_log=get_logger(component="fuzz")))
    for frame in frames:
        try:
            message = parse_frame(frame)
        except WireError:
            continue
        if isinstance(message, WireReply):
            clock.measured(
                whole_number(message.data.get("server_time")), sent_ns=0, received_ns=len(frame)
            )
        elif isinstance(message, WireEvent):
            message.connection_id()
            if message.name == "missed":
                translator.events_were_missed()
            events = translator.translate(message)
            assert len(events) <= 100 + _MOST_EVENTS_PER_BYTE * sum(map(len, frames))
            for event in events:
                repr(event)
                clock.to_monotonic_ns(getattr(event, "at_ms", 0))
            await CallClient._signal_received(client, message.text("data"), cast(Any, _Media()))


async def _answers(status: int, headers: dict[str, str], body: bytes) -> None:
    """Every request, answered with the same."""
    transport = httpx.MockTransport(
        lambda request: httpx.Response(status, headers=headers, content=body)
    )
    api = object.__new__(PluginApi)
    async with httpx.AsyncClient(transport=transport, base_url="https://site.example") as http:
        api._http = http
        requests: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: api.filename(_CHANNEL),
            lambda: api.profile(_CHANNEL, "session"),
            lambda: api.users_by_ids(["user"]),
            api.client_config,
            api.turn_credentials,
            lambda: api.get_upload("upload"),
            lambda: api.send_upload_data("upload", b"", length_bytes=0),
            lambda: api.post_of_file("file"),
        )
        for request in requests:
            try:
                answer = await request()
            except ApiError as error:
                check_text(error, 300)
                check_text(error.reason, 200)
                continue
            servers, _ = read_servers(answer)
            assert len(servers) <= 16


def _run(data: bytes) -> None:
    if data[:1] < b" ":  # the length of a first frame; no JSON begins so
        LOOP.run_until_complete(_frames(list(pieces(data))))
        return
    LOOP.run_until_complete(_frames([data]))
    status = (200, 200, 200, 204, 400, 429)[len(data) % 6]
    retry = "".join(chr(byte) for byte in data[-20:] if 32 < byte < 127)
    LOOP.run_until_complete(_answers(status, {"Retry-After": retry}, data))


def _event(name: str, data: object, **more: object) -> bytes:
    event = {"event": ACTION_PREFIX + name, "data": data, "broadcast": {"channel_id": _CHANNEL}}
    return json.dumps(event | more).encode()


def _seeds() -> Iterable[bytes]:
    call = {
        "sessions": [
            {"session_id": "a", "user_id": "u", "unmuted": True, "raised_hand": 1700000000000},
            {"session_id": "b", "user_id": "v", "video": True},
        ],
        "host_id": "u",
        "screen_sharing_session_id": "a",
        "recording": {"init_at": 1, "start_at": 2, "end_at": 3, "err": "why"},
    }
    state = _event("call_state", {"call": json.dumps(call)})
    one = {"session_id": "a", "user_id": "u"}
    names = (
        *(
            "user_joined",
            "user_left",
            "user_muted",
            "user_unmuted",
            "user_voice_on",
            "user_voice_off",
        ),
        *("user_video_on", "user_screen_on", "user_screen_off", "user_raise_hand", "host_removed"),
    )
    yield state
    yield joined([state, *(_event(name, one) for name in names), b'{"event":"missed"}', state])
    emoji = {"name": "tada", "unified": "1f389", "literal": "x"}
    job = {"jobState": {"type": "recording", "init_at": 1, "err": ""}}
    yield joined(
        [
            _event("user_reacted", one | {"emoji": emoji, "timestamp": 5, "raised_hand": 1e300}),
            _event("call_host_changed", {"hostID": "u"}),
            _event("call_job_state", job),
            _event("caption", one | {"text": "words"}),
            _event("job_stop", {"job_id": "job"}),
            _event("call_end", {}),
        ]
    )
    signal = json.dumps({"type": "candidate", "candidate": {"candidate": "1 1 udp 1 h 1 typ host"}})
    offer = json.dumps({"type": "offer", "sdp": "v=0"})
    yield joined([_event("signal", {"data": text, "connID": "c"}) for text in (signal, offer)])
    yield b'{"status":"OK","seq_reply":1,"data":{"server_time":1700000000000}}'
    for answer in (
        {"filename": "name", "id": "i", "file_size": 3, "file_offset": 1, "post_id": "p"},
        [{"id": "i", "username": "n", "first_name": "f", "last_name": "l"}],
        {"message": "refused", "status_code": 400},
        [{"urls": ["turn:turn.example.org"], "username": "u", "credential": "c"}],
    ):
        yield json.dumps(answer).encode()


TARGET = Target(
    parses="the site's WebSocket frames and call events, signals, its API's answers (JSON)",
    run=_run,
    seeds=_seeds,
    tokens=(
        b'"event":"custom_com.mattermost.calls_',
        b'"seq_reply":',
        b'"server_time":',
        b'"raised_hand":',
        b'"broadcast":{"channel_id":"channel"}',
        b'"call":"{\\"sessions\\":[{',
        b"Infinity",
        b"NaN",
        b"1e999",
        b"9" * 400,
        b"\\ud800",
        b"[" * 60,
    ),
    max_bytes=6144,
    ci_inputs=500,
)
