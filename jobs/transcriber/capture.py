"""Captures: each speaker's Opus packets as they came, on disk in half a second. All else can be redone.

Two files per voice track: an Ogg Opus file that any player opens (packets one after another, pauses left
out), and an index beside it, one JSON array per line: `[granule, call_ns, page offset]` says at which call
time the sample `granule` (48 kHz) was spoken. A line is written for each page and wherever time jumps.
Where packets were lost it is `[granule, call_ns, page offset, lost_ns, repairs]`: what `VoicePacket` says
of the packet that begins there. Captures from before that have three numbers only.
The page is written before its index lines, so an index never speaks of audio that is not there.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from jobs.ogg import OggOpusWriter, read_pages
from rtc.opus import CLOCK_RATE_HZ, packet_samples

INDEX_SUFFIX: Final = ".index"
_JUMP_NS: Final = 10_000_000
"""A deviation from continuous time that gets its own index line: half a packet."""
_MAX_CONCEALED_NS: Final = 1_000_000_000
"""A longer loss is a pause like any other."""
_MAX_PENDING: Final = 3000
"""Packets kept while the disk refuses them: one minute at 20 ms."""
_MAX_DROPPED: Final = 10_000
"""Stretches given up that are remembered, each at least a second from the next."""


@dataclass(frozen=True, slots=True)
class VoicePacket:
    """One Opus packet at its place in the call."""

    payload: bytes
    call_ns: int
    """When its first sample was spoken; 0 is the start of the recording."""
    duration_ns: int
    lost_ns: int = 0
    """How much of the sound right before it was lost on the way and is to be concealed."""
    repairs_loss: bool = False
    """The payload also holds the packet before it, coarsely: see `EncodedFrame.repairs_loss`."""

    @property
    def concealed_ns(self) -> int:
        """What a decoder makes up before this packet: as long as that is worth while."""
        return self.lost_ns if self.lost_ns <= _MAX_CONCEALED_NS else 0

    @property
    def heard_ns(self) -> int:
        """When the packet's sound begins, with what is made up before it."""
        return self.call_ns - self.concealed_ns

    @property
    def end_ns(self) -> int:
        return self.call_ns + self.duration_ns


@dataclass(frozen=True, slots=True)
class TrackIdentity:
    """Whose voice a capture holds. The first line of the index."""

    track_id: str
    session_id: str
    user_id: str
    """Empty when the call client did not know it yet."""


class TrackCapture:
    """Writes one track. `add` is cheap and called on the event loop; `flush` blocks: call it in a thread.

    `flush` never runs twice at a time. Files exist from the first flush with packets on.
    """

    def __init__(self, path: Path, identity: TrackIdentity) -> None:
        self.path = path
        self.identity = identity
        self.packets_dropped = 0
        """Lost because the disk refused them for too long."""
        self._pending: list[VoicePacket] = []
        self._in_flight: list[VoicePacket] = []
        """Taken from pending by a flush that is not through."""
        self._handover = threading.Lock()
        """Held for moments: a packet is always in one of the two lists or in the file."""
        self._dropped: list[tuple[int, int]] = []
        self._refused = False
        self._writer = OggOpusWriter(serial=zlib.crc32(identity.track_id.encode()))
        self._size_bytes = 0
        self._index_bytes = 0
        self._expected_ns: int | None = None
        self._flushed_ns = -1

    def on_disk(self, until_ns: int) -> bool:
        """Everything added of the call time before `until_ns` can be read from the file."""
        with self._handover:
            return self._flushed_ns >= until_ns or not (self._pending or self._in_flight)

    @property
    def refused(self) -> bool:
        """The disk took nothing the last time: until it does, `unwritten` is all there is."""
        return self._refused

    def unwritten(self, start_ns: int, end_ns: int) -> list[VoicePacket]:
        """The packets that overlap the call time and are not surely in the file."""
        with self._handover:
            waiting = [*self._in_flight, *self._pending]
        return [p for p in waiting if p.end_ns > start_ns and p.heard_ns < end_ns]

    def dropped(self, start_ns: int, end_ns: int) -> int:
        """How many nanoseconds of that call time were given up because the disk refused them."""
        return sum(
            max(0, min(end_ns, until_ns) - max(start_ns, since_ns))
            for since_ns, until_ns in self._dropped
        )

    def add(self, packet: VoicePacket) -> None:
        """Take a packet; packets without audio (empty or broken) are ignored."""
        if packet_samples(packet.payload) == 0:
            return
        with self._handover:
            given_up = self._pending.pop(0) if len(self._pending) >= _MAX_PENDING else None
            self._pending.append(packet)
        if given_up is not None:
            self.packets_dropped += 1
            self._give_up(given_up)

    def flush(self) -> None:
        """Append what is pending.

        Raises:
            OSError: the disk refused it; the packets stay pending and the next flush tries again.
        """
        with self._handover:
            batch, self._pending = self._pending, []
            self._in_flight = batch
        if not batch:
            return
        before = (self._writer.granule, self._expected_ns, self._size_bytes)
        try:
            self._append(batch)
        except OSError:
            # The writer's page numbers went on; a hole in them only tells readers what happened.
            self._writer.granule, self._expected_ns, self._size_bytes = before
            self._refused = True
            with self._handover:
                self._pending, self._in_flight = batch + self._pending, []
            raise
        self._refused = False
        with self._handover:
            self._flushed_ns, self._in_flight = batch[-1].end_ns, []

    def _give_up(self, packet: VoicePacket) -> None:
        if self._dropped and packet.call_ns - self._dropped[-1][1] <= _MAX_CONCEALED_NS:
            self._dropped[-1] = (self._dropped[-1][0], packet.end_ns)
        elif len(self._dropped) < _MAX_DROPPED:
            self._dropped.append((packet.call_ns, packet.end_ns))

    def _append(self, batch: list[VoicePacket]) -> None:
        data = self._writer.headers() if self._size_bytes == 0 else b""
        page_offset = self._size_bytes + len(data)
        lines = [] if self._index_bytes else [json.dumps({"version": 1, **asdict(self.identity)})]
        granule = self._writer.granule
        for position, packet in enumerate(batch):
            expected_ns = self._expected_ns
            if (
                position == 0
                or expected_ns is None
                or abs(packet.call_ns - expected_ns) > _JUMP_NS
                or packet.lost_ns
            ):
                marks = [packet.lost_ns, packet.repairs_loss] if packet.lost_ns else []
                lines.append(json.dumps([granule, packet.call_ns, page_offset, *marks]))
                expected_ns = packet.call_ns
            samples = packet_samples(packet.payload)
            granule += samples
            self._expected_ns = expected_ns + _samples_ns(samples)
        data += self._writer.pages([(p.payload, packet_samples(p.payload)) for p in batch])
        self._size_bytes = _append_at(self.path, self._size_bytes, data)
        text = "".join(line + "\n" for line in lines)
        index = self.path.with_name(self.path.name + INDEX_SUFFIX)
        self._index_bytes = _append_at(index, self._index_bytes, text.encode())


def _append_at(path: Path, size_bytes: int, data: bytes) -> int:
    """Append at the last good size, so that a write cut short by a full disk is overwritten."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        os.ftruncate(descriptor, size_bytes)
        written = 0
        while written < len(data):
            written += os.pwrite(descriptor, data[written:], size_bytes + written)
    finally:
        os.close(descriptor)
    return size_bytes + len(data)


class CapturedTrack:
    """Reads a capture, also one that was cut off, also while it is still being written."""

    def __init__(self, path: Path) -> None:
        """
        Raises:
            OSError: no such capture.
            ValueError: the index has no readable first line.
        """
        self.path = path
        self.identity, self._runs = _read_index(path.with_name(path.name + INDEX_SUFFIX))

    def packets(self, *, start_ns: int = 0, end_ns: int | None = None) -> Iterator[VoicePacket]:
        """The packets that overlap the given call time, in order."""
        if not self._runs:
            return
        first = max(0, bisect_right(self._runs, start_ns, key=lambda run: run.call_ns) - 1)
        offset_bytes = self._runs[first].page_offset_bytes
        # A page is read as a whole: begin with its first run.
        run = bisect_left(self._runs, offset_bytes, key=lambda run: run.page_offset_bytes)
        with self.path.open("rb") as file:
            for page in read_pages(file, offset_bytes=offset_bytes):
                if page.packets and page.packets[0].startswith((b"OpusHead", b"OpusTags")):
                    continue
                granule = page.granule - sum(packet_samples(p) for p in page.packets)
                for payload in page.packets:
                    while run + 1 < len(self._runs) and self._runs[run + 1].granule <= granule:
                        run += 1
                    since = granule - self._runs[run].granule
                    at_ns = self._runs[run].call_ns + _samples_ns(since)
                    lost_ns, repairs = self._runs[run].marks if since == 0 else (0, False)
                    samples = packet_samples(payload)
                    duration_ns = _samples_ns(samples)
                    granule += samples
                    packet = VoicePacket(payload, at_ns, duration_ns, lost_ns, repairs)
                    if end_ns is not None and packet.heard_ns >= end_ns:
                        return
                    if packet.end_ns > start_ns:
                        yield packet

    def losses(self) -> Iterator[tuple[int, int]]:
        """Call times between which packets were lost, in order."""
        for run in self._runs:
            if run.marks[0]:
                yield run.call_ns - run.marks[0], run.call_ns


def find_captures(directory: Path) -> list[CapturedTrack]:
    """All readable captures of a job's directory, by file name; unreadable ones are left out."""
    found = []
    for index in sorted(directory.glob(f"*.ogg{INDEX_SUFFIX}")):
        try:
            found.append(CapturedTrack(index.with_name(index.name.removesuffix(INDEX_SUFFIX))))
        except (OSError, ValueError):
            continue
    return found


@dataclass(frozen=True, slots=True)
class _Run:
    """One line of the index: from here on time is continuous."""

    granule: int
    call_ns: int
    page_offset_bytes: int
    marks: tuple[int, bool] = (0, False)
    """`lost_ns` and `repairs_loss` of the packet at `granule`."""


def _samples_ns(samples: int) -> int:
    return samples * 1_000_000_000 // CLOCK_RATE_HZ


def _read_index(path: Path) -> tuple[TrackIdentity, list[_Run]]:
    lines = path.read_bytes().split(b"\n")
    try:
        head = json.loads(lines[0])
        identity = TrackIdentity(head["track_id"], head["session_id"], head["user_id"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: the first line does not describe a capture") from error
    runs: list[_Run] = []
    for line in lines[1:]:
        try:
            granule, call_ns, offset_bytes, *marks = json.loads(line)
            lost_ns, repairs = marks or (0, False)
            place = (int(granule), int(call_ns), int(offset_bytes))
            runs.append(_Run(*place, marks=(int(lost_ns), bool(repairs))))
        except (ValueError, TypeError, OverflowError, RecursionError):
            break  # the last line may be cut off
    return identity, runs
