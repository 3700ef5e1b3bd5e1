"""A publisher, a network and an SFU, simulated exactly: what comes out is held against what was said."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

from callclient.receive.latency import LatencyBudget
from callclient.receive.receiver import TrackReceiver
from callclient.receive.tracks import Codec, EncodedFrame, RemoteTrack, TrackSource
from callclient.timeline.call_timeline import CallTimeline
from rtc.ntp import ntp_from_unix
from rtc.rtcp import SenderReport
from rtc.rtp import RtpHeader

MS = 1_000_000
SECOND = 1000 * MS
PACKET_NS = 20 * MS
START_NS = 100 * SECOND
BASE_DELAY_NS = 30 * MS
UNIX_NS = 1_700_000_000 * SECOND
SERVER_AHEAD_NS = 3_600 * SECOND
"""The SFU's wall clock is not ours."""


@dataclass
class Network:
    """Of each packet: is it lost, how long is it on its way?"""

    jitter_ms: int = 0
    loss: float = 0.0
    in_order: bool = False
    """Packets queue behind each other instead of overtaking."""
    seed: int = 0
    stalls: tuple[tuple[float, float], ...] = ()
    """(begin, end) in s: nothing gets through, then everything at once."""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._last_ns = 0

    def arrival_ns(self, sent_ns: int) -> int | None:
        if self._random.random() < self.loss:
            return None
        arrival_ns = sent_ns + BASE_DELAY_NS + round(self._random.random() * self.jitter_ms * MS)
        for begin_s, end_s in self.stalls:
            if START_NS + begin_s * SECOND <= arrival_ns < START_NS + end_s * SECOND:
                arrival_ns = START_NS + round(end_s * SECOND)
        if self.in_order:
            arrival_ns = max(arrival_ns, self._last_ns)
            self._last_ns = arrival_ns
        return arrival_ns


@dataclass
class Sender:
    """A microphone: a packet every 20 ms but in mutes."""

    drift_ppm: float = 0.0
    mutes: tuple[tuple[float, float], ...] = ()
    """(begin, end) in s."""
    clock_stops: bool = True
    """In mutes, as Chromium's and Firefox's do."""
    numbers_go_on: bool = False
    """In mutes: the original SFU drops muted packets and leaves their numbers out."""
    first_timestamp: int = 0
    first_sequence: int = 0
    steps: tuple[tuple[float, int], ...] = ()
    """(at s, samples): the RTP clock jumps."""

    def packets(self, seconds: float) -> list[tuple[int, int, int]]:
        """(captured ns, sequence, timestamp), not wrapped."""
        made = []
        sequence, stood_ns = self.first_sequence, 0
        for n in range(round(seconds * 50)):
            at_ns = n * PACKET_NS
            if any(b * SECOND <= at_ns < e * SECOND for b, e in self.mutes):
                sequence += self.numbers_go_on
                stood_ns += PACKET_NS if self.clock_stops else 0
                continue
            samples = (at_ns - stood_ns) * 48_000 / SECOND * (1 + self.drift_ppm / 1e6)
            stepped = sum(step for at_s, step in self.steps if at_ns >= at_s * SECOND)
            timestamp = self.first_timestamp + round(samples) + stepped
            made.append((START_NS + at_ns, sequence, timestamp))
            sequence += 1
        return made


@dataclass
class Heard:
    """What the receiver made of it."""

    track: RemoteTrack
    frames: list[EncodedFrame]
    delays_ns: list[int] = field(default_factory=list)
    """Per frame: from the arrival that was possible to the moment of delivery."""

    def errors_ms(self, *, after_s: float = 0.0) -> list[float]:
        """How far each frame lies from where it belongs: its capture and the shortest way here."""
        return [
            (frame.time_ns - captured_ns - BASE_DELAY_NS) / MS
            for frame in self.frames
            if (captured_ns := captured_of(frame)) >= START_NS + after_s * SECOND
        ]

    def worst_seam_ms(self) -> float:
        """The largest difference of two neighbours' errors, where neither mute nor loss is between."""
        errors = [(captured_of(f), (f.time_ns - captured_of(f)) / MS) for f in self.frames]
        return max(abs(b - a) for (at, a), (then, b) in pairwise(errors) if then - at == PACKET_NS)


def payload_for(captured_ns: int) -> bytes:
    return b"\xf8" + captured_ns.to_bytes(8)


def captured_of(frame: EncodedFrame) -> int:
    return int.from_bytes(frame.payload[1:9])


class Simulator:
    """Runs packets through a TrackReceiver as the client does, with a timer every 20 ms."""

    def __init__(self) -> None:
        self.timeline = CallTimeline()

    def hear(
        self,
        sender: Sender,
        network: Network,
        *,
        seconds: float,
        budget: LatencyBudget,
        reports: str = "",
        source: TrackSource = TrackSource.VOICE,
    ) -> Heard:
        """`reports`: "original" for sender reports as the original SFU makes them, "ours" as ours."""
        frames: list[EncodedFrame] = []
        track = RemoteTrack(
            track_id="voice_s_1", session_id="s", source=source, codec=Codec.OPUS, capacity=1
        )
        track.deliver = frames.append
        receiver = TrackReceiver(track, ssrc=1, budget=budget, timeline=self.timeline)
        packets = sender.packets(seconds)
        events: list[tuple[int, int, Any]] = []
        for number, (captured_ns, sequence, timestamp) in enumerate(packets):
            arrival_ns = network.arrival_ns(captured_ns)
            if arrival_ns is not None:
                events.append((arrival_ns, number, (captured_ns, sequence, timestamp)))
        events += [(at, -1, report) for at, report in self._reports(packets, network, reports)]
        heard = Heard(track, frames)
        now_ns = START_NS
        for at_ns, _, event in sorted(events, key=lambda event: event[:2]):
            while now_ns < at_ns:
                receiver.tick(now_ns)
                now_ns += 20 * MS
            if isinstance(event, SenderReport):
                receiver.sender_report(event, at_ns)
                continue
            captured_ns, sequence, timestamp = event
            payload = payload_for(captured_ns)
            header = RtpHeader(
                False, 111, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, 1, 0, len(payload)
            )
            known = len(frames)
            receiver.packet_received(payload, header, at_ns)
            heard.delays_ns += [at_ns - captured_of(f) - BASE_DELAY_NS for f in frames[known:]]
        for _ in range(60):
            receiver.tick(now_ns)
            now_ns += 20 * MS
        receiver.finish()
        return heard

    def _reports(
        self, packets: list[tuple[int, int, int]], network: Network, kind: str
    ) -> list[tuple[int, SenderReport]]:
        """One a second. Original: by when the newest packet came to the SFU, going on in mutes as if the
        RTP clock ran. Ours: by when it was captured."""
        if not kind:
            return []
        uplink = random.Random(network.seed + 1)
        made = []
        at_ns = START_NS + 400 * MS
        while at_ns < packets[-1][0]:
            captured_ns, _, timestamp = max(p for p in packets if p[0] <= at_ns)
            # On a bad network the publisher's packets come late to the SFU as well.
            late_ns = round(uplink.random() * network.jitter_ms * MS) if kind == "original" else 0
            told_ns = at_ns + SERVER_AHEAD_NS + UNIX_NS
            rtp = timestamp + (at_ns - late_ns - captured_ns) * 48_000 // SECOND
            if uplink.random() >= network.loss:
                arrival_ns = at_ns + BASE_DELAY_NS + round(uplink.random() * network.jitter_ms * MS)
                report = SenderReport(1, ntp_from_unix(told_ns), rtp & 0xFFFFFFFF)
                made.append((arrival_ns, report))
            at_ns += SECOND
        return made


@pytest.fixture
def world() -> Any:
    """The classes of this file, for tests that cannot import it."""

    class World:
        pass

    world: Any = World()
    world.Network, world.Sender, world.Simulator = Network, Sender, Simulator
    world.captured_of, world.START_NS, world.BASE_DELAY_NS = captured_of, START_NS, BASE_DELAY_NS
    return world
