"""Packets for a receive path without a network."""

from __future__ import annotations

from typing import Any

import pytest

from callclient.receive.latency import CAPTIONS, LatencyBudget
from callclient.receive.receiving import Receiving
from callclient.receive.routing import MID, RID
from callclient.receive.tracks import EncodedFrame, RemoteTrack
from rtc import vp8
from rtc.rtcp import RtcpMessage, parse_rtcp
from rtc.rtp import build_rtp
from rtc.sdp import CodecDescription, Msid
from rtc.sections import RemoteMedia
from rtc.transport_cc import EXTENSION_URI

MS = 1_000_000
LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
OPUS = CodecDescription(111, "opus", 48_000, 2)
VP8 = CodecDescription(96, "VP8", 90_000, feedback=("nack", "nack pli"))
AV1 = CodecDescription(45, "AV1", 90_000, feedback=("nack", "nack pli"))
TRANSPORT_CC_ID = 5
MID_ID, RID_ID, LEVEL_ID = 6, 7, 1


class Desk:
    """A `Receiving`, what it said, and hands to feed it."""

    def __init__(self, budget: LatencyBudget = CAPTIONS) -> None:
        self.sent: list[RtcpMessage] = []
        self.events: list[Any] = []
        self.rtt_s: float | None = None
        self.woken = 0
        self.now_ns = 1000 * MS
        self.receiving = Receiving(
            own_session_id="me",
            budget=budget,
            send_rtcp=lambda compound: self.sent.extend(parse_rtcp(compound)),
            emit=self.events.append,
            rtt_s=lambda: self.rtt_s,
            wake=self._wake,
        )

    def _wake(self) -> None:
        self.woken += 1

    def media(
        self,
        track_id: str,
        ssrc: int | None,
        *codecs: CodecDescription,
        mid: str = "1",
        rids: tuple[str, ...] = (),
    ) -> RemoteMedia:
        """`ssrc`: None where the description names none."""
        kind = "audio" if track_id.startswith(("voice", "screen-audio")) else "video"
        return RemoteMedia(
            mid=mid,
            kind=kind,
            msid=Msid("stream", track_id),
            ssrcs=() if ssrc is None else (ssrc,),
            rids=rids,
            codecs=codecs or ((OPUS,) if kind == "audio" else (VP8,)),
            extensions={EXTENSION_URI: TRANSPORT_CC_ID, MID: MID_ID, RID: RID_ID, LEVEL: LEVEL_ID},
        )

    def announce(self, *media: RemoteMedia) -> None:
        self.receiving.announced(media, self.now_ns)

    def rtp(
        self,
        ssrc: int,
        sequence: int,
        payload: bytes,
        *,
        timestamp: int = 0,
        marker: bool = False,
        payload_type: int = 96,
        transport_seq: int | None = None,
        extensions: tuple[tuple[int, bytes], ...] = (),
    ) -> None:
        if transport_seq is not None:
            extensions += ((TRANSPORT_CC_ID, transport_seq.to_bytes(2)),)
        packet = build_rtp(
            payload,
            payload_type=payload_type,
            sequence=sequence,
            timestamp=timestamp,
            ssrc=ssrc,
            marker=marker,
            extensions=extensions,
        )
        self.receiving.rtp_received(packet, self.now_ns)

    def picture(
        self,
        ssrc: int,
        number: int,
        *,
        key: bool = False,
        lose: tuple[int, ...] = (),
        extensions: tuple[tuple[int, bytes], ...] = (),
    ) -> None:
        """Three packets with numbers from 3 × `number` on."""
        frame = bytes([0x10 if key else 0x11, number & 255, 0]) + bytes(3000)
        payloads = vp8.packetize(frame, picture_id=number)
        for index, payload in enumerate(payloads):
            if index not in lose:
                self.rtp(
                    ssrc,
                    3 * number + index,
                    payload,
                    timestamp=9000 * number,
                    marker=index == len(payloads) - 1,
                    extensions=extensions,
                )

    def picture_packet(self, ssrc: int, number: int, index: int) -> None:
        """One of these packets again."""
        self.picture(ssrc, number, lose=tuple(i for i in range(3) if i != index))

    def run(self, milliseconds: int) -> None:
        """The timer of that long."""
        for _ in range(milliseconds // 20):
            self.now_ns += 20 * MS
            self.receiving.tick(self.now_ns)

    def said(self, kind: type) -> list[Any]:
        """What was sent of a kind since the last question."""
        found = [message for message in self.sent if isinstance(message, kind)]
        self.sent = [message for message in self.sent if not isinstance(message, kind)]
        return found

    def track(self, number: int = 0) -> RemoteTrack:
        added: list[RemoteTrack] = [
            e.track for e in self.events if type(e).__name__ == "TrackAdded"
        ]
        return added[number]

    @staticmethod
    def frames(track: RemoteTrack) -> list[EncodedFrame]:
        """Those that wait for the reader."""
        channel: Any = track.frames()
        found = []
        while (frame := channel.receive_nowait()) is not None:
            found.append(frame)
        return found


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def codecs() -> dict[str, CodecDescription]:
    return {"OPUS": OPUS, "VP8": VP8, "AV1": AV1}
