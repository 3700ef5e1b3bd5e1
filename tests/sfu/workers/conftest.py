"""A participant for tests of whole servers, whoever carries its signaling."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import pytest

from rtc import calls_dc
from rtc.net.client_network import client_transport
from rtc.peer import Peer
from rtc.rtp import build_rtp, parse_rtp
from rtc.sdp import Msid
from rtc.sections import LocalMedia
from sfu.capabilities import CAPABILITIES
from sfu.media_port import SessionConfig, SessionOutlet
from sfu.messages import Close, Rtc, RtcMessage, RtcType, Vad

HOST = "127.0.0.1"


class Server(Protocol):
    """What a participant needs of a server: a media plane, or a plugin in front of one."""

    async def join(self, config: SessionConfig, send: SessionOutlet) -> None: ...

    async def handle(self, session_id: str, message: RtcMessage) -> None: ...

    async def leave(self, session_id: str) -> None: ...


class Guest:
    """One participant: a peer, and what it was told."""

    def __init__(self, server: Server, session_id: str) -> None:
        self.server = server
        self.session_id = session_id
        self.closed = asyncio.Event()
        self.ready = asyncio.Event()
        self.candidates: list[str] = []
        self._heard: list[str] = []
        self._heard_one = asyncio.Event()
        self._from_server: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._answered = asyncio.Event()
        self.peer = Peer(
            ice=lambda on_data, on_selected, on_lost: client_transport(
                controlling=True,
                on_data=on_data,
                on_selected=on_selected,
                on_lost=on_lost,
                addresses=[HOST],
            ),
            capabilities=CAPABILITIES,
            events=self,
            channel_label="calls-dc",
            connect_timeout_s=25,
        )

    def outlet(self, message: Rtc | Vad | Close) -> None:
        match message:
            case Rtc(inner) if inner.type is RtcType.SDP:
                self._from_server.put_nowait(calls_dc.read_sdp_json(inner.data))
            case Rtc(inner) if inner.type is RtcType.ICE:
                self.candidates.append(inner.data.decode())
            case Close():
                self.closed.set()

    async def negotiate(self) -> None:
        """Answer offers of the server, until cancelled."""
        while True:
            kind, sdp = await self._from_server.get()
            if kind == "offer":
                await self._tell("answer", await self.peer.accept_offer(sdp))
            else:
                await self.peer.accept_answer(sdp)
                self._answered.set()

    async def offer(self) -> None:
        self._answered.clear()
        await self._tell("offer", await self.peer.create_offer())
        await self._answered.wait()

    async def speak(self) -> None:
        ssrc = secrets.randbits(32)
        msid = Msid("s", secrets.token_hex(6))
        self.peer.negotiation.add_sender("audio", LocalMedia(msid, ssrc, self.session_id))
        await self.offer()
        for number in range(100):
            self.peer.send_rtp(
                build_rtp(
                    b"speech",
                    payload_type=111,
                    sequence=number,
                    timestamp=number * 960,
                    ssrc=ssrc,
                )
            )
            await asyncio.sleep(0.002)

    async def heard(self) -> str:
        """Whose speech has come in; the first one's."""
        await asyncio.wait_for(self._heard_one.wait(), 25)
        return self._heard[0]

    async def _tell(self, kind: str, sdp: str) -> None:
        data = json.dumps({"type": kind, "sdp": sdp}).encode()
        message = RtcMessage(RtcType.SDP, self.session_id, data)
        await self.server.handle(self.session_id, message)

    # PeerEvents

    def peer_connected(self) -> None: ...

    def peer_failed(self, reason: str) -> None: ...

    def channel_opened(self, channel: object) -> None:
        self.ready.set()

    def channel_message(self, channel: object, message: bytes | str) -> None: ...

    def rtp_received(self, packet: bytes, arrival_ns: int) -> None:
        header = parse_rtp(packet)
        assert header is not None
        for media in self.peer.negotiation.remote_media():
            if header.ssrc in media.ssrcs and media.msid is not None:
                self._heard.append(media.msid.track_id.split("_")[1])
                self._heard_one.set()

    def rtcp_received(self, compound: bytes) -> None: ...


@asynccontextmanager
async def _guest(server: Server, name: str, *, call: str = "call") -> AsyncIterator[Guest]:
    me = Guest(server, name.ljust(26, "x"))
    me.peer.negotiation.add_data_section()
    await server.join(SessionConfig("group", call, "user", me.session_id), me.outlet)
    negotiating = asyncio.create_task(me.negotiate())
    try:
        async with asyncio.timeout(25):
            await me.offer()
            await me.ready.wait()
        yield me
    finally:
        await server.leave(me.session_id)
        negotiating.cancel()
        await asyncio.wait([negotiating])
        await me.peer.close()


@pytest.fixture
def guest() -> Callable[..., AbstractAsyncContextManager[Guest]]:
    """`async with guest(server, "name", call="call") as participant`: joined, its data channel open."""
    return _guest
