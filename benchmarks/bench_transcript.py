"""A long meeting through the transcriber's own pipeline, as fast as it goes: memory, and what is left to do.

    python -m benchmarks.bench_transcript [--speakers 8] [--minutes 60] [--talk 0.25] [--burn] [--check]

Captures, ears, voice activity, backlog, scheduler and engine are the real ones; only the network is left out
and the clock is ours. Speakers take turns with pauses, muted in between, so that each talks `--talk` of the
time and several at once. The call waits while more than a few pieces wait for their text, so the time from
hang-up to transcript is that of a machine that keeps up, and `speed` (call time over real time) says whether
this one does. One JSON line per quarter and one at the end; `--check` makes the limits the exit code.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.captions.burning import BurningEngine
from benchmarks.quiet_peer import QuietPeer
from benchmarks.simulated_call import call_options, run_call
from callclient.receive.tracks import Codec, EncodedFrame, RemoteTrack, TrackSource
from foundation.channel import Channel
from foundation.clock import ManualClock
from foundation.process_stats import read_process_stats
from jobs.transcriber.captions import CaptionOptions
from jobs.transcriber.engines.base import SpeechEngine
from jobs.transcriber.engines.catalogue import find_model, load_engine, plan_workers
from jobs.transcriber.models import Models
from jobs.transcriber.outcome import write_files
from jobs.transcriber.pipeline import CallPipeline
from jobs.transcriber.settings import TranscriberSettings
from jobs.transcriber.speakers import SpeakerDirectory
from jobs.transcriber.vad import load_silero
from testbed.demo.options import BUNDLED_MODEL
from testbed.speech.clips import CLIPS_DIRECTORY, Clip, load_clips

_VOICES: Final = ("alice", "bob", "carol")
_PACKET_NS: Final = 20_000_000
_STEP_S: Final = 10.0
"""Of the call, handed over at once: far below what a track may have waiting."""
_FEW_PIECES: Final = 8
_HEADROOM_MB: Final = 400
_FLAT_MB: Final = 40
"""Growth of the resident memory that is allowed between the first quarter of the call and its end."""
_AT_HANG_UP_S: Final = 10.0
_ID: Final = "abcdefghijklmnopqrstuvwxy"


def main() -> int:
    """Returns the exit code."""
    parser = call_options(
        "benchmarks.bench_transcript", __doc__, speakers=8, minutes=60.0, talk=0.25
    )
    parser.add_argument("--burn", action="store_true", help="cost as much CPU as the model base")
    return run_call(parser.parse_args(), _measure)


async def _measure(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    settings = TranscriberSettings(
        site_url="http://127.0.0.1",
        call_id=_ID + "c",
        post_id=_ID + "p",
        job_id=_ID + "t",
        auth_token=_ID + "s",
        data_dir=directory,
    )
    settings.directory.mkdir()
    model_dir = find_model(BUNDLED_MODEL.parent, BUNDLED_MODEL.name)
    workers, threads_per_worker = plan_workers(2)
    engine: SpeechEngine = load_engine(
        model_dir, workers=workers, threads_per_worker=threads_per_worker
    )
    if options.burn:
        engine = BurningEngine(engine)
    clock = ManualClock()
    peer = QuietPeer()
    zero_ns = clock.monotonic_ns()
    pipeline = CallPipeline(
        peer,
        Models(engine, None, load_silero(), workers),
        directory=settings.directory,
        zero_ns=zero_ns,
        clock=clock,
        caption_options=CaptionOptions(language="en"),
        on_figures=lambda figures: None,
        on_backlog=lambda done, total: None,
    )
    tracks: Channel[RemoteTrack] = Channel(options.speakers)
    speakers = []
    for number in range(options.speakers):
        peer.state.join(f"session{number}", f"user{number}")
        track = RemoteTrack(
            track_id=f"track{number}",
            session_id=f"session{number}",
            source=TrackSource.VOICE,
            codec=Codec.OPUS,
            capacity=4096,
        )
        tracks.offer(track)
        speakers.append((track, _talk(number, share=options.talk, zero_ns=zero_ns)))
    running = asyncio.create_task(pipeline.run(tracks))
    await asyncio.sleep(0)
    began_s, cpu_s = time.monotonic(), time.process_time()
    length_ns = round(options.minutes * 60e9)
    resident_mb: list[float] = []
    waiting = [next(frames) for _, frames in speakers]
    spoken_s = 0.0
    for step in range(1, int(length_ns / (_STEP_S * 1e9)) + 1):
        until_ns = zero_ns + round(step * _STEP_S * 1e9)
        for index, (track, frames) in enumerate(speakers):
            while waiting[index].time_ns < until_ns:
                track.deliver(waiting[index])
                spoken_s += _PACKET_NS / 1e9
                waiting[index] = next(frames)
        clock.advance(seconds=_STEP_S)
        await _until_heard(pipeline)
        if step % max(1, int(length_ns / (_STEP_S * 1e9)) // 4) == 0:
            resident_mb.append(read_process_stats().rss_bytes / 1e6)
            print(json.dumps(_state(pipeline, step * _STEP_S, resident_mb[-1])), flush=True)
    call_s = time.monotonic() - began_s
    left = pipeline.backlog.pieces - pipeline.backlog.pieces_done
    pipeline.end_call()
    for track, _ in speakers:
        track.end()
    await running
    segments = pipeline.backlog.segments
    await asyncio.to_thread(write_files, segments, SpeakerDirectory(directory), settings)
    hang_up_s = time.monotonic() - began_s - call_s
    peak_mb = read_process_stats().peak_rss_bytes / 1e6
    model_mb = (model_dir / "model.bin").stat().st_size / 1e6
    figures = pipeline.figures()
    speed = options.minutes * 60 / call_s
    lost = int(figures["packets_dropped"]) + int(figures["segments_failed"])
    growth_mb = resident_mb[-1] - resident_mb[0]
    return {
        "speakers": options.speakers,
        "minutes": options.minutes,
        "spoken_s": round(spoken_s),
        "segments": len(segments),
        "lost": lost,
        "speed": round(speed, 1),
        "cpu_per_call_s": round((time.process_time() - cpu_s) / (options.minutes * 60), 4),
        "pieces_left_at_hang_up": left,
        "hang_up_to_transcript_s": round(hang_up_s, 2),
        "model_mb": round(model_mb, 1),
        "rss_peak_mb": round(peak_mb),
        "rss_growth_mb": round(growth_mb),
        "well": not lost
        and peak_mb <= model_mb + _HEADROOM_MB
        and growth_mb <= _FLAT_MB
        and (hang_up_s <= _AT_HANG_UP_S or speed < 1),
    }


async def _until_heard(pipeline: CallPipeline) -> None:
    """Until the ears are through, the disk has it, and no more than a few pieces wait."""
    while True:
        await asyncio.sleep(0.02)
        await pipeline.captures.flush()
        backlog = pipeline.backlog
        if pipeline.packets_waiting == 0 and backlog.pieces - backlog.pieces_done <= _FEW_PIECES:
            return


def _talk(number: int, *, share: float, zero_ns: int) -> Iterator[EncodedFrame]:
    """Turns of one to four sentences, muted in between; the same for every run."""
    rng = random.Random(number)
    clips: list[Clip] = load_clips(CLIPS_DIRECTORY, speakers=_VOICES)[_VOICES[number % 3]]
    at_ns = zero_ns + round(rng.uniform(0.0, 8.0) * 1e9)
    while True:
        began_ns = at_ns
        for _ in range(rng.randint(1, 4)):
            for payload in rng.choice(clips).packets:
                yield EncodedFrame(payload, at_ns, _PACKET_NS, keyframe=True, lost_before=0)
                at_ns += _PACKET_NS
        pause_ns = (at_ns - began_ns) * (1 - share) / share
        at_ns += round(pause_ns * rng.uniform(0.6, 1.4) / _PACKET_NS) * _PACKET_NS


def _state(pipeline: CallPipeline, call_s: float, resident_mb: float) -> dict[str, Any]:
    return {
        "call_s": round(call_s),
        "pieces": pipeline.backlog.pieces,
        "pieces_done": pipeline.backlog.pieces_done,
        "rss_mb": round(resident_mb),
    }


if __name__ == "__main__":
    sys.exit(main())
