"""Limits on what one client may have here, and how they come from the settings to where they hold."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from typing import Any

import msgpack
import pytest

from rtc.ice import IceBounds
from rtc.net.shared_port import SharedPort
from sfu.limits import Limits, Occupancy
from sfu.media_port import JoinError, SessionConfig
from sfu.messages import Close, Join, Message
from sfu.server import SfuServer
from sfu.settings import load_settings
from sfu.workers.pool import WorkerPool

VARIABLES = {
    "CLIENTSESSIONS": "client_sessions",
    "CLIENTCALLS": "client_calls",
    "SESSIONTRACKS": "session_tracks",
    "SESSIONCANDIDATES": "session_candidates",
    "AUDIOBITSPERSECOND": "audio_bps",
    "VIDEOBITSPERSECOND": "video_bps",
    "TCPQUEUEBYTES": "tcp_queue_bytes",
    "SIGNALBYTES": "signal_bytes",
    "SIGNALBYTESPERSECOND": "signal_bytes_per_s",
    "CHECKSPERSECOND": "checks_per_s",
    "LINKLOCAL": "link_local",
}


def test_each_limit_is_read_from_its_setting() -> None:
    assert load_settings(None, {}).limits == Limits()
    assert list(VARIABLES.values()) == list(asdict(Limits()))
    for number, (variable, name) in enumerate(VARIABLES.items(), 50_001):
        value: Any = True if name == "link_local" else number
        read = load_settings(None, {f"RTCD_LIMITS_{variable}": str(value).lower()}).limits
        assert read == replace(Limits(), **{name: value})


def test_a_worker_gets_all_limits_but_those_of_clients_of_whom_it_sees_a_part_only() -> None:
    limits = Limits(client_sessions=1, client_calls=2, session_tracks=3, link_local=True)
    told = Limits.unpack(msgpack.unpackb(msgpack.packb(limits.pack())))
    assert told == replace(limits, client_sessions=0, client_calls=0)


def test_what_a_client_has_is_counted_for_it_alone_and_forgotten_with_its_last_session() -> None:
    occupancy = Occupancy(Limits(client_sessions=2, client_calls=1))
    occupancy.enter("c1", new_call=True)
    occupancy.enter("c1", new_call=False)
    for new_call in (True, False):
        with pytest.raises(JoinError):
            occupancy.enter("c1", new_call=new_call)
    occupancy.enter("c2", new_call=True)
    for call_over in (False, True):
        occupancy.leave("c1", call_over=call_over)
    occupancy.leave("c2", call_over=True)
    assert not occupancy._sessions
    assert not occupancy._calls
    unlimited = Occupancy(Limits(client_sessions=0, client_calls=0))
    for _ in range(20_000):
        unlimited.enter("c1", new_call=True)


async def test_a_join_beyond_the_limit_is_answered_by_close_and_counted_by_what_is_too_much(
    live, sfu
) -> None:
    sfu._occupancy = Occupancy(Limits(client_sessions=2, client_calls=1))
    socket = await live.connect()
    for call, session in (("call", "s1"), ("other", "s2"), ("call", "s3"), ("call", "s4")):
        socket.send(Join(call, "user", session))
    got: list[Message] = [await socket.receive() for _ in range(2)]
    assert got == [Close("s2"), Close("s4")]
    text = (await live.http.get("/metrics")).text
    for reason in ("calls", "sessions"):
        labels = f'clientID="plugin",reason="{reason}"'
        assert f"rtcd_ws_joins_refused_total{{{labels}}} 1.0" in text
    other = await live.connect("other")
    other.send(Join("call", "user", "s5"))
    assert await other.settle() == []  # of another client


async def test_limits_of_checks_and_of_tcp_queues_hold_at_the_media_port() -> None:
    limits = Limits(session_candidates=5, checks_per_s=7, tcp_queue_bytes=20_000, link_local=True)
    port = SfuServer(udp_port=0, limits=limits)._port
    assert isinstance(port, SharedPort)
    assert port._bounds == IceBounds(candidates=5, checks_per_s=7, link_local=True)
    assert port._flows._backlog_bytes == 20_000
    transport = port.create_transport(
        controlling=False,
        on_data=lambda _: None,
        on_selected=lambda: None,
        on_lost=lambda _: None,
    )
    for number in range(1, 8):
        transport.add_remote_candidate(f"1 1 udp 1 169.254.0.{number} 9 typ host")
    assert transport.refused() == {
        "ice_request": 0,
        "candidate": 2,
        "candidate_address": 0,
        "check": 0,
    }
    transport.close()


class IdleWorker:
    """A worker process that only takes note."""

    def __init__(self) -> None:
        self.sessions: set[str] = set()

    def send(self, message: Any) -> None:
        pass


@pytest.mark.documents("a-mattermost-with-too-many-sessions-or-calls")
async def test_with_several_processes_the_owner_counts_for_all_of_them(documented) -> None:
    async def announced() -> list[Any]:
        return []

    pool = WorkerPool(
        processes=2,
        announced=announced,
        listening=(),
        udp_port=0,
        tcp_port=0,
        limits=Limits(client_sessions=2),
    )
    pool._workers = {0: IdleWorker(), 1: IdleWorker()}  # type: ignore[dict-item]  # stands in
    closed: list[Any] = []

    async def join(session_id: str) -> None:
        await pool.join(SessionConfig("c1", session_id, "user", session_id), closed.append)

    await asyncio.gather(join("s1"), join("s2"))
    with pytest.raises(JoinError, match="2 sessions already") as caught:
        await join("s3")
    assert caught.value.reason == "sessions"
    documented("a-mattermost-with-too-many-sessions-or-calls", str(caught.value))
    assert pool.sessions("c1", "s3") is None
    pool._pass_on("s1", ["close", "s1"])
    await join("s3")
    assert closed == [Close("s1")]
    assert pool._options["limits"]["client_sessions"] == 0
