"""A participant's offers and answers: one at a time, its own under the signaling lock (rtcd.md 3.2)."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from foundation.channel import Channel, ChannelClosed
from rtc import calls_dc
from rtc.calls_dc import DcError, DcMessage, DcType
from rtc.errors import RtcError
from rtc.peer import Peer
from rtc.sctp import DataChannel
from rtc.sdp import MediaKind, Msid
from rtc.sections import LocalMedia, Section
from sfu.loadtest.capabilities import TRANSPORT_SEQUENCE
from sfu.loadtest.shared import ParticipantFailed, Shared
from sfu.messages import Rtc, RtcMessage, RtcType

_LOCK_TIMEOUT_S: Final = 5.0
_LOCK_RETRY_S: Final = 0.05
"""As the web client."""
_ANSWER_TIMEOUT_S: Final = 10.0
_CAPACITY: Final = 256


@dataclass(frozen=True, slots=True)
class _Description:
    kind: str
    text: str
    over_channel: bool


class Negotiator:
    """`run` in a task; the rest from the loop."""

    def __init__(
        self,
        session_id: str,
        peer: Peer,
        shared: Shared,
        *,
        on_transport_cc: Callable[[int], None],
        on_answer: Callable[[], None],
    ) -> None:
        """`on_transport_cc(extension_id)` once when it is negotiated; `on_answer()` at the first answer."""
        self._session_id = session_id
        self._peer = peer
        self._shared = shared
        self._on_transport_cc: Callable[[int], None] | None = on_transport_cc
        self._on_answer: Callable[[], None] | None = on_answer
        self._descriptions: Channel[_Description] = Channel(_CAPACITY)
        self._lock_replies: Channel[bool] = Channel(8)
        self._answered: asyncio.Future[None] | None = None
        self.channel: DataChannel | None = None

    async def run(self) -> None:
        """Answer the SFU's offers and take its answers, in order."""
        async for description in self._descriptions:
            try:
                await self._apply(description)
            except RtcError as error:
                self._shared.refused[f"{description.kind}: {error}"] += 1

    def close(self) -> None:
        self._descriptions.close()
        self._lock_replies.close()

    # what comes in

    def description_received(self, kind: str, text: str, *, over_channel: bool) -> None:
        try:
            accepted = self._descriptions.offer(_Description(kind, text, over_channel))
        except ChannelClosed:
            return
        if not accepted:
            self._shared.refused[f"{kind}: {_CAPACITY} wait already"] += 1

    def channel_message(self, message: bytes | str) -> None:
        """Anything on the data channel; what is not negotiation is left out."""
        try:
            parsed = calls_dc.decode(message if isinstance(message, bytes) else message.encode())
            if parsed.type is DcType.LOCK:
                self._lock_replies.offer(bool(parsed.payload))
            elif parsed.type is DcType.SDP:
                self.description_received(*calls_dc.unpack_sdp(parsed.payload), over_channel=True)
        except DcError as error:
            self._shared.refused[f"data channel: {error}"] += 1
        except ChannelClosed:
            return

    # what goes out

    def send_first_offer(self, offer: str) -> None:
        """Over the WebSocket: there is no channel yet."""
        self._send_description("offer", offer, over_channel=False)

    def send_on_channel(self, message: DcMessage) -> None:
        if self.channel is not None:
            self.channel.send(calls_dc.encode(message))

    async def publish(self, kind: MediaKind, stream_id: str) -> tuple[int, Section]:
        """Offer one more track; returns its SSRC and where it was put.

        Raises:
            ParticipantFailed: no lock, or no answer in time.
        """
        timings = self._shared.timings
        asked_ns = time.monotonic_ns()
        await self._take_lock()
        offered_ns = time.monotonic_ns()
        timings["lock"].record(offered_ns - asked_ns)
        media = LocalMedia(
            Msid(stream_id, secrets.token_hex(8)), secrets.randbits(32), self._session_id
        )
        try:
            section = self._peer.negotiation.add_sender(kind, media)
            self._answered = asyncio.get_running_loop().create_future()
            offer = await self._peer.create_offer()
            self._send_description("offer", offer, over_channel=self._shared.plan.dc_signaling)
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                await self._answered
        except TimeoutError:
            raise ParticipantFailed(
                f"no answer to the offer of {kind} within {_ANSWER_TIMEOUT_S:g} s"
            ) from None
        finally:
            self.send_on_channel(DcMessage(DcType.UNLOCK))
        timings["renegotiation"].record(time.monotonic_ns() - offered_ns)
        return media.ssrc, section

    async def _take_lock(self) -> None:
        try:
            async with asyncio.timeout(_LOCK_TIMEOUT_S):
                while True:
                    self.send_on_channel(DcMessage(DcType.LOCK))
                    if await self._lock_replies.receive():
                        return
                    await asyncio.sleep(_LOCK_RETRY_S)
        except TimeoutError:
            raise ParticipantFailed(f"no signaling lock within {_LOCK_TIMEOUT_S:g} s") from None

    async def _apply(self, description: _Description) -> None:
        if description.kind == "offer":
            answer = await self._peer.accept_offer(description.text)
            self._look_for_transport_cc()
            self._send_description("answer", answer, over_channel=description.over_channel)
            return
        await self._peer.accept_answer(description.text)
        if self._on_answer is not None:
            self._on_answer()
            self._on_answer = None
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    def _look_for_transport_cc(self) -> None:
        if self._on_transport_cc is None:
            return
        for section in self._peer.negotiation.sections:
            if TRANSPORT_SEQUENCE in section.extensions:
                self._on_transport_cc(section.extensions[TRANSPORT_SEQUENCE])
                self._on_transport_cc = None
                return

    def _send_description(self, kind: str, text: str, *, over_channel: bool) -> None:
        if over_channel and self.channel is not None and self.channel.open:
            self.send_on_channel(DcMessage(DcType.SDP, calls_dc.pack_sdp(kind, text)))
        else:
            data = json.dumps({"type": kind, "sdp": text}).encode()
            message = RtcMessage(RtcType.SDP, self._session_id, data)
            self._shared.connection.send(Rtc(message))
