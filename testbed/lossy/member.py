"""The product's media client in a call of an SFU in the same process, with or without a proxy between."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any, Final

from callclient.events import CallEvent
from callclient.media import CallMedia
from callclient.receive.latency import CAPTIONS, LatencyBudget
from rtc import calls_dc
from sfu.media_port import SessionConfig
from sfu.messages import Rtc, RtcMessage, RtcType
from sfu.server import SfuServer

_CONNECT_S: Final = 10.0
_OWN_CANDIDATES: Final = re.compile(r"a=candidate:[^\r\n]*\r?\n")
_SSRC: Final = re.compile(r"a=ssrc:(\d+) msid:\S+ (\S+)")
_CANDIDATE: Final = re.compile(
    r"(?P<head>candidate:\S+ \d+ )(?P<transport>\w+)(?P<middle> \d+ \S+ )(?P<port>\d+)"
)


def through(port: int, text: str) -> str:
    """The SFU's candidates led to a proxy's UDP port; lines of other transports left out."""
    kept = []
    for line in text.splitlines(keepends=True):
        found = _CANDIDATE.search(line)
        if found is None:
            kept.append(line)
        elif found["transport"].lower() == "udp":
            moved = f"{found['head']}{found['transport']}{found['middle']}{port}"
            kept.append(line[: found.start()] + moved + line[found.end() :])
    return "".join(kept)


class Member:
    """`join`, then `media`; `leave` in the end."""

    def __init__(
        self,
        server: SfuServer,
        name: str,
        *,
        emit: Callable[[CallEvent], None] = lambda event: None,
        latency: LatencyBudget = CAPTIONS,
        proxy_port: int | None = None,
    ) -> None:
        self.session_id = name.ljust(26, "x")
        self.ssrcs: dict[str, set[int]] = {}
        """By track id: everything that the SFU has announced."""
        self._server = server
        self._proxy_port = proxy_port
        self._tasks: set[asyncio.Task[Any]] = set()
        self.media = CallMedia(
            own_session_id=self.session_id,
            send_description=self._to_server,
            emit=emit,
            connect_timeout_s=_CONNECT_S,
            latency=latency,
        )

    async def join(self) -> None:
        """Until the data channel is open. Raises TimeoutError."""
        config = SessionConfig("group", "call", "user", self.session_id)
        await self._server.join(config, self._from_server)
        self._running = asyncio.create_task(self.media.run(), name=f"{self.session_id}-media")
        await self.media.offer()
        async with asyncio.timeout(_CONNECT_S):
            await self.media.ready.wait()

    async def leave(self) -> None:
        self._running.cancel()
        await asyncio.wait([self._running, *self._tasks], timeout=5)
        await self.media.close()
        await self._server.leave(self.session_id)

    def say(self, kind: RtcType, value: Any) -> None:
        """A message to the SFU."""
        message = RtcMessage(kind, self.session_id, json.dumps(value).encode())
        self._spawn(self._server.handle(self.session_id, message))

    def _to_server(self, kind: str, sdp: str) -> None:
        if self._proxy_port is not None:  # else the SFU would find a way around the proxy
            sdp = _OWN_CANDIDATES.sub("", sdp)
        self.say(RtcType.SDP, {"type": kind, "sdp": sdp})

    def _from_server(self, message: object) -> None:
        if not isinstance(message, Rtc):
            return
        inner = message.message
        if inner.type is RtcType.SDP:
            kind, sdp = calls_dc.read_sdp_json(inner.data)
            for ssrc, track_id in _SSRC.findall(sdp):
                self.ssrcs.setdefault(track_id, set()).add(int(ssrc))
            self.media.description_received(kind, self._moved(sdp))
        elif inner.type is RtcType.ICE:
            line = self._moved(json.loads(inner.data)["candidate"]["candidate"])
            if line:
                self._spawn(self.media.candidate_received(line))

    def _moved(self, text: str) -> str:
        return text if self._proxy_port is None else through(self._proxy_port, text)

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
