"""What a participant tells the SFU regularly: pings, quality, RTCP reports, requests (rtcd.md 3.3, 3.8)."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Final

from rtc.calls_dc import DcMessage, DcType
from rtc.ntp import ntp_from_unix
from rtc.rtcp import MAX_REPORT_BLOCKS, build_receiver_report, build_sender_report
from sfu.loadtest.pacer import Pacer
from sfu.loadtest.receiving import Receiver
from sfu.loadtest.sources import Source

_REPORT_INTERVAL_NS: Final = 1_000_000_000
_FEEDBACK_INTERVAL_NS: Final = 100_000_000
_QUALITY_EVERY: Final = 4
"""Loss, round trip and jitter go out with every fourth ping, as the Go client does (rtcd.md 3.14)."""


class Reports:
    """Of one participant; the process's pacer drives them."""

    def __init__(
        self,
        receiver: Receiver,
        sources: Sequence[Source],
        *,
        send_rtcp: Callable[[bytes], None],
        send_on_channel: Callable[[DcMessage], None],
        hears_voice: bool,
    ) -> None:
        self._receiver = receiver
        self._sources = sources
        self._send_rtcp = send_rtcp
        self._send_on_channel = send_on_channel
        self._hears_voice = hears_voice
        self._count = 0
        self.stopped = False

    def start(self, pacer: Pacer, *, feedback: bool) -> None:
        """`feedback`: NACKs and transport-wide arrivals too, ten times a second."""
        now_ns = time.monotonic_ns()
        pacer.add(now_ns + random.randrange(_REPORT_INTERVAL_NS), self._report)
        if feedback:
            pacer.add(now_ns + random.randrange(_FEEDBACK_INTERVAL_NS), self._feed_back)

    def _report(self, now_ns: int, due_ns: int) -> int | None:
        if self.stopped:
            return None
        self._send_on_channel(DcMessage(DcType.PING))
        self._count += 1
        if self._hears_voice and self._count % _QUALITY_EVERY == 0:
            for kind in (DcType.LOSS_RATE, DcType.ROUND_TRIP_TIME, DcType.JITTER):
                self._send_on_channel(DcMessage(kind, 0.0))
        blocks = [track.report_block() for track in self._receiver.tracks.values()]
        for start in range(0, len(blocks), MAX_REPORT_BLOCKS):
            some = blocks[start : start + MAX_REPORT_BLOCKS]
            self._send_rtcp(build_receiver_report(ssrc=1, blocks=some))
        for source in self._sources:
            self._send_rtcp(
                build_sender_report(
                    ssrc=source.ssrc,
                    ntp=ntp_from_unix(time.time_ns()),
                    rtp_timestamp=source.timestamp,
                    packets=source.sequence,
                    octets=source.octets,
                )
            )
        return due_ns + _REPORT_INTERVAL_NS

    def _feed_back(self, now_ns: int, due_ns: int) -> int | None:
        if self.stopped:
            return None
        for nack in self._receiver.nacks():
            self._send_rtcp(nack)
        if self._receiver.feedback is not None:
            for packet in self._receiver.feedback.build():
                self._send_rtcp(packet)
        return due_ns + _FEEDBACK_INTERVAL_NS
