"""What one packet costs in the parts of the forwarding path that are called for each: ns per call.

One JSON line per case; the best of several runs, with the loop around the call counted.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import count, islice

from rtc.bandwidth import BandwidthEstimator
from rtc.nack import NackGenerator
from rtc.rtcp import TransportFeedback, build_nack, parse_rtcp
from rtc.sent_history import SentHistory
from rtc.statistics import ReceiveStatistics
from rtc.transport_cc import FeedbackBuilder
from sfu.forwarding.history import PacketHistory
from sfu.forwarding.rate_monitor import RateMonitor
from sfu.forwarding.rewriter import SequenceRewriter
from sfu.forwarding.vp8_rewriter import Vp8Rewriter, read_vp8_ids

CALLS = 50_000
RUNS = 5
_MS = 1_000_000
_PACKETS_PER_FEEDBACK = 40
_VP8 = b"\x90\xf0\x80\x01\x02\x03\x11\x02\x00" + bytes(1100)
Case = Callable[[], None]


def rewrite() -> Case:
    rewriter = SequenceRewriter(clock_rate_hz=90_000, ssrc=1, sequence=1, timestamp=0)
    numbers = count(1)

    def run() -> None:
        call = rewriter.map
        for number in islice(numbers, CALLS):
            call(number & 0xFFFF, number)

    return run


def drop_muted() -> Case:
    rewriter = SequenceRewriter(clock_rate_hz=48_000, ssrc=1, sequence=1, timestamp=0)
    numbers = count(1)

    def run() -> None:
        call = rewriter.drop
        for number in islice(numbers, CALLS):
            call(number & 0xFFFF)

    return run


def read_vp8() -> Case:
    def run() -> None:
        for _ in range(CALLS):
            read_vp8_ids(_VP8, 0, len(_VP8))

    return run


def rewrite_vp8() -> Case:
    ids = read_vp8_ids(_VP8, 0, len(_VP8))
    if ids is None:
        raise AssertionError("the sample is broken")
    rewriter = Vp8Rewriter()
    rewriter.switch(ids, ids)
    packet = bytearray(_VP8)

    def run() -> None:
        call = rewriter.apply
        for _ in range(CALLS):
            call(packet, 0, ids)

    return run


def keep() -> Case:
    history = PacketHistory(256)
    packet = bytes(1100)

    def run() -> None:
        call = history.put
        for number in range(CALLS):
            call(number & 0xFFFF, packet)

    return run


def measure_rate() -> Case:
    monitor = RateMonitor(2)
    times_ns = count(0, _MS)

    def run() -> None:
        call = monitor.push
        for now_ns in islice(times_ns, CALLS):
            call(1100, now_ns)

    return run


def count_received() -> Case:
    statistics = ReceiveStatistics(1, 48_000)
    numbers = count(1)

    def run() -> None:
        call = statistics.received
        for number in islice(numbers, CALLS):
            call(number & 0xFFFF, number * 960 & 0xFFFFFFFF, number * 20 * _MS)

    return run


def look_for_loss() -> Case:
    generator = NackGenerator()
    numbers = count(1)

    def run() -> None:
        call = generator.received
        for number in islice(numbers, CALLS):
            call(number & 0xFFFF, 0)

    return run


def number_sent() -> Case:
    history = SentHistory()

    def run() -> None:
        call = history.sent
        for number in range(CALLS):
            call(1100, number)

    return run


def record_arrivals() -> Case:
    """With the feedback made of them every 40 packets."""
    builder = FeedbackBuilder(sender_ssrc=1)
    numbers = count(1)

    def run() -> None:
        call = builder.record
        for _ in range(CALLS // _PACKETS_PER_FEEDBACK):
            for number in islice(numbers, _PACKETS_PER_FEEDBACK):
                call(number & 0xFFFF, number * 2_500_000)
            builder.build()

    return run


def estimate() -> Case:
    """Reading the feedback on 40 packets, matching it with what was sent, and the estimate."""
    history, estimator = SentHistory(), BandwidthEstimator()
    builder = FeedbackBuilder(sender_ssrc=1)
    now_ns = 0

    def run() -> None:
        nonlocal now_ns
        for _ in range(CALLS // _PACKETS_PER_FEEDBACK):
            for _ in range(_PACKETS_PER_FEEDBACK):
                now_ns += 2_500_000
                builder.record(history.sent(1100, now_ns), now_ns + 30 * _MS)
            for packet in builder.build():
                for message in parse_rtcp(packet):
                    if isinstance(message, TransportFeedback):
                        estimator.feedback(history.acknowledge(message.body), now_ns)

    return run


def read_nacks() -> Case:
    packet = build_nack(sender_ssrc=1, media_ssrc=2, sequences=[1, 2, 5, 40])

    def run() -> None:
        for _ in range(CALLS // 10):
            for _ in parse_rtcp(packet):
                pass

    return run


CASES: dict[str, tuple[Callable[[], Case], int]] = {
    "SequenceRewriter.map": (rewrite, CALLS),
    "SequenceRewriter.drop": (drop_muted, CALLS),
    "read_vp8_ids": (read_vp8, CALLS),
    "Vp8Rewriter.apply": (rewrite_vp8, CALLS),
    "PacketHistory.put": (keep, CALLS),
    "RateMonitor.push": (measure_rate, CALLS),
    "ReceiveStatistics.received": (count_received, CALLS),
    "NackGenerator.received": (look_for_loss, CALLS),
    "SentHistory.sent": (number_sent, CALLS),
    "FeedbackBuilder.record + build/40": (record_arrivals, CALLS),
    "sent + record + build/40 + acknowledge/40 + estimate/40": (estimate, CALLS),
    "parse_rtcp of a NACK": (read_nacks, CALLS // 10),
}


def main() -> None:
    for name, (make, calls) in CASES.items():
        run = make()
        best_s = min(_timed(run) for _ in range(RUNS))
        line = {"bench": "packets", "case": name, "ns_per_call": round(best_s * 1e9 / calls)}
        print(json.dumps(line))


def _timed(run: Case) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


if __name__ == "__main__":
    main()
