"""What a recorded second costs: CPU of the media thread and of the process that decodes video for it, for a
still grid, for talk, and for a shared screen.

One JSON line per case; `ratio` is against the first case of the same run.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np

from callclient.receive.tracks import Codec, EncodedFrame, RemoteTrack, TrackSource
from jobs.recorder.compositor import Compositor
from jobs.recorder.decoding.decoder import Decoder
from jobs.recorder.happenings import Emoji, Reaction
from jobs.recorder.inbox import Item, SceneChange, TrackFrame
from jobs.recorder.mp4 import Mp4Writer
from jobs.recorder.recording import Recording
from jobs.recorder.scene import Person, Scene, Tile
from jobs.recorder.settings import RecorderSettings
from testbed.bots.screen import ScreenEncoder

SECONDS: Final = 20
VOICES: Final = 8
_NS: Final = 1_000_000_000
_PACKET_NS: Final = 20_000_000
SETTINGS: Final = RecorderSettings(
    "", "", "", "", "", width_px=1280, height_px=720, frame_rate=20, video_preset="veryfast"
)
TILES: Final = tuple(
    Tile(f"s{n}", Person(f"u{n}", f"Person {n}"), False, None, False, 0) for n in range(VOICES)
)


def main() -> None:
    cases: dict[str, Callable[[], Iterator[Item]]] = {
        "grid": grid,
        "grid, 2 of 8 talk": lambda: talk(voices=2),
        "grid, 2 of 8 talk, a reaction each second": lambda: react(talk(voices=2)),
        "grid, 8 voices": talk,
        "grid, 2 cameras 360p15, 2 of 8 talk": lambda: show(talk(voices=2), cameras=2),
        "screen 720p10, 8 voices": share,
    }
    first: float | None = None
    for name, items in cases.items():
        cpu_s, size_bytes = measure(list(items()))
        first = first or cpu_s
        line = {
            "bench": "recorder",
            "case": name,
            "cpu_s_per_s": round(cpu_s / SECONDS, 4),
            "ratio": round(cpu_s / first, 2),
            "kbit_per_s": round(size_bytes * 8 / 1000 / SECONDS),
        }
        print(json.dumps(line))


def measure(items: list[Item]) -> tuple[float, int]:
    """CPU seconds and file size of a recording of `items`, which are in order of time."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "part.mp4"
        compositor = Compositor(SETTINGS.width_px, SETTINGS.height_px)
        decoder = Decoder()
        recording = Recording(
            Mp4Writer(path, SETTINGS),
            compositor,
            SETTINGS,
            zero_ns=0,
            zero_utc=datetime.now(UTC),
            decoder=decoder,
        )
        started = _cpu_s()
        position = 0
        for until_ns in range(0, SECONDS * _NS, 50_000_000):
            while position < len(items) and _time(items[position]) <= until_ns:
                recording.take(items[position])
                position += 1
            recording.advance(until_ns)
        recording.finish(SECONDS * _NS)
        decoder.close()
        return _cpu_s() - started, path.stat().st_size


def _cpu_s() -> float:
    """Of this process and of those that have ended."""
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def grid() -> Iterator[Item]:
    yield SceneChange(0, Scene(TILES, VOICES))


def talk(voices: int = VOICES) -> Iterator[Item]:
    """So many at once, and somebody begins or ceases to be seen speaking each half second."""
    yield from grid()
    packets = _opus(SECONDS)
    tracks = [_track(TrackSource.VOICE, n) for n in range(voices)]
    for number, payload in enumerate(packets):
        at_ns = number * _PACKET_NS
        if at_ns % (_NS // 2) == 0:
            speaker = at_ns // (_NS // 2) % voices
            tiles = tuple(replace(t, speaking=n == speaker) for n, t in enumerate(TILES))
            yield SceneChange(at_ns, Scene(tiles, VOICES))
        for track in tracks:
            yield TrackFrame(track, EncodedFrame(payload, at_ns, _PACKET_NS, True, 0))


def react(items: Iterator[Item]) -> Iterator[Item]:
    """One after the other with one of three emoji; each is seen for ten seconds."""
    emoji = (Emoji("tada", "1f389"), Emoji("heart", "2764-fe0f"), Emoji("+1", "1f44d"))
    for item in items:
        if isinstance(item, SceneChange):
            seconds = range(max(0, item.time_ns // _NS - 9), item.time_ns // _NS + 1)
            reactions = tuple(
                Reaction(f"s{n % VOICES}", emoji[n % 3], n * _NS, f"Person {n % VOICES}")
                for n in seconds
            )
            item = replace(item, scene=replace(item.scene, reactions=reactions))
        yield item


def show(items: Iterator[Item], *, cameras: int) -> Iterator[Item]:
    """Moving pictures in the first tiles."""
    sent = []
    for number in range(cameras):
        track = _track(TrackSource.VIDEO, number)
        for count, payload in enumerate(_camera(SECONDS * 15)):
            frame = EncodedFrame(payload, count * _NS // 15, 0, count == 0, 0)
            sent.append(TrackFrame(track, frame))
    for item in items:
        if isinstance(item, SceneChange):
            tiles = tuple(replace(t, camera=n < cameras) for n, t in enumerate(item.scene.tiles))
            item = replace(item, scene=replace(item.scene, tiles=tiles))
        sent.append(item)
    yield from sorted(sent, key=_time)


def share() -> Iterator[Item]:
    """The generated picture of the bots, and everybody talks."""
    encoder, track = ScreenEncoder(), _track(TrackSource.SCREEN, 0)
    frames = [encoder.encode(n, key_frame=n == 0) for n in range(SECONDS * 10)]
    items: list[Item] = [
        TrackFrame(track, EncodedFrame(frame, n * _NS // 10, 0, n == 0, 0))
        for n, frame in enumerate(frames)
    ]
    for item in talk():
        if isinstance(item, SceneChange):
            item = replace(item, scene=replace(item.scene, screen_session_id="s0"))
        items.append(item)
    yield from sorted(items, key=_time)


def _time(item: Item) -> int:
    return item.frame.time_ns if isinstance(item, TrackFrame) else getattr(item, "time_ns", 0)


def _track(source: TrackSource, number: int) -> RemoteTrack:
    codec = Codec.OPUS if source.is_audio else Codec.VP8
    name = f"{source.value}_s{number}_x"
    return RemoteTrack(track_id=name, session_id=f"s{number}", source=source, codec=codec)


def _camera(frames: int) -> Iterator[bytes]:
    """Noise that moves slowly over a grey ground, 640×360."""
    codec = av.CodecContext.create("libvpx", "w")
    assert isinstance(codec, av.VideoCodecContext)
    codec.width, codec.height, codec.pix_fmt = 640, 360, "yuv420p"
    codec.time_base, codec.bit_rate, codec.gop_size = Fraction(1, 15), 600_000, 100_000
    codec.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}
    noise = np.random.default_rng(2).integers(90, 160, (540, 640), dtype=np.uint8)
    for number in range(frames):
        planes = np.roll(noise, number, axis=1)
        planes[360:] = 128
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(planes), format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, 15)
        yield from (bytes(packet) for packet in codec.encode(frame))


def _opus(seconds: int) -> list[bytes]:
    codec = av.CodecContext.create("libopus", "w")
    assert isinstance(codec, av.AudioCodecContext)
    codec.sample_rate, codec.layout, codec.format = 48_000, "mono", "flt"
    codec.time_base = Fraction(1, 48_000)
    noise = np.random.default_rng(1).normal(0, 0.05, (seconds * 50, 1, 960)).astype(np.float32)
    packets = []
    for number, block in enumerate(noise):
        frame = av.AudioFrame.from_ndarray(block, format="flt", layout="mono")
        frame.sample_rate, frame.pts = 48_000, number * 960
        packets += [bytes(packet) for packet in codec.encode(frame)]
    return packets


if __name__ == "__main__":
    main()
