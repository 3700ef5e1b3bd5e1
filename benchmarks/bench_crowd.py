"""Everybody at once: what two cores leave out of the captions, and that the transcript has all of it.

    python -m benchmarks.bench_crowd [--speakers 20] [--seconds 40] [--check]

Two people talk for ten seconds, then all of them for `--seconds`, then two again, in real time through the
transcriber's own pipeline: captures, ears, captions, final text. Only the network is left out. The engine is
the bundled model, and what `base` would compute is burnt as CPU (benchmarks/captions/burning.py). One JSON
line per second and one at the end; `--check` makes the promises of docs/transcription.md the exit code.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.captions.burning import BurningEngine
from benchmarks.quiet_peer import QuietPeer
from callclient.receive.tracks import Codec, EncodedFrame, RemoteTrack, TrackSource
from foundation.channel import Channel
from foundation.clock import SystemClock
from foundation.logs import configure_logs
from foundation.process_stats import read_process_stats
from jobs.transcriber.captions import TRANSCRIBER_BUSY, WINDOW_DROPPED, CaptionOptions
from jobs.transcriber.engines.base import Recognition, SpeechEngine
from jobs.transcriber.engines.catalogue import find_model, load_engine
from jobs.transcriber.models import Models
from jobs.transcriber.pipeline import CallPipeline
from jobs.transcriber.transcript import Segment
from jobs.transcriber.vad import load_silero
from testbed.analysis.speech import align, split_words
from testbed.demo.options import BUNDLED_MODEL
from testbed.speech.clips import CLIPS_DIRECTORY, Clip, load_clips

_CORES: Final = 2
_FEW: Final = 2
_BEFORE_S: Final = 10.0
_AFTER_S: Final = 30.0
_RECOVERED_S: Final = 25.0
"""Three levels of five seconds each, and what was waiting."""
_RECOVERED_BACKLOG_S: Final = 5.0
"""One utterance that goes on."""
_MOST_WAITING_S: Final = 20.0
"""`CaptionOptions.max_backlog_s`; an utterance at work and its newest audio may come on top."""
_MARGIN_S: Final = 10.0
_GROWTH_MB: Final = 100
_WORD_ERRORS: Final = 0.05
"""Twice what the bundled model makes of the clips one by one."""
_PACKET_NS: Final = 20_000_000
_VOICES: Final = ("alice", "bob", "carol")


class _CountingEngine(BurningEngine):
    """Counts what is asked of it at which level of load shedding."""

    def __init__(self, engine: SpeechEngine) -> None:
        super().__init__(engine)
        self.level: Callable[[], int] = lambda: 0
        self.calls: Counter[tuple[int, str]] = Counter()

    def hypothesise(
        self,
        audio: NDArray[np.float32],
        *,
        language: str | None,
        context_s: float,
        complete: bool,
    ) -> Recognition:
        self.calls[self.level(), "whole" if complete else "growing"] += 1
        return super().hypothesise(audio, language=language, context_s=context_s, complete=complete)

    def transcribe(self, audio: NDArray[np.float32], *, language: str | None) -> Recognition:
        self.calls[self.level(), "final"] += 1
        return super().transcribe(audio, language=language)


@dataclass(slots=True)
class _Speaker:
    track: RemoteTrack
    clips: Sequence[Clip]
    said: list[str] = field(default_factory=list)
    next_ns: int = 0
    """When the next packet is due."""
    packets: Iterator[bytes] = field(default_factory=lambda: iter(()))
    clip: int = 0

    def speak(self, now_ns: int, rng: random.Random) -> None:
        """Deliver what is due; a new sentence begins after a short pause."""
        while self.next_ns <= now_ns:
            payload = next(self.packets, None)
            if payload is None:
                clip = self.clips[self.clip % len(self.clips)]
                self.clip += 1
                self.said += split_words(clip.text)
                self.packets = iter(clip.packets)
                self.next_ns += round(rng.choice((0.0, 0.3, 0.8)) * 50) * _PACKET_NS
                continue
            self._deliver(payload)

    def finish(self, now_ns: int) -> bool:
        """Deliver what is due of the sentence that has begun; False: it is over."""
        while self.next_ns <= now_ns:
            payload = next(self.packets, None)
            if payload is None:
                return False
            self._deliver(payload)
        return True

    def _deliver(self, payload: bytes) -> None:
        frame = EncodedFrame(payload, self.next_ns, _PACKET_NS, keyframe=True, lost_before=0)
        self.track.deliver(frame)
        self.next_ns += _PACKET_NS


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_crowd", description=__doc__)
    parser.add_argument("--speakers", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=40.0, help="of everybody at once")
    parser.add_argument("--check", action="store_true", help="exit code 1 beyond the limits")
    options = parser.parse_args()
    configure_logs(level="error")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:_CORES])
    with tempfile.TemporaryDirectory() as directory:
        result = asyncio.run(_Crowd(options, Path(directory)).run())
    print(json.dumps(result), flush=True)
    for text in result["missed"]:
        print(f"missed: {text}")
    return 1 if result["missed"] and options.check else 0


class _Crowd:
    def __init__(self, options: argparse.Namespace, directory: Path) -> None:
        self._seconds: float = options.seconds
        model_dir = find_model(BUNDLED_MODEL.parent, BUNDLED_MODEL.name)
        self._engine = _CountingEngine(load_engine(model_dir, workers=_CORES, threads_per_worker=1))
        self._peer = QuietPeer()
        self._rng = random.Random(20)
        self._clock = SystemClock()
        self._figures: dict[str, int | float] = {}
        self._zero_ns = self._clock.monotonic_ns()
        self._pipeline = CallPipeline(
            self._peer,
            Models(self._engine, self._engine, load_silero(), _CORES),
            directory=directory,
            zero_ns=self._zero_ns,
            clock=self._clock,
            caption_options=CaptionOptions(language="en"),
            on_figures=lambda figures: None,
            on_backlog=lambda done, total: None,
        )
        self._engine.level = lambda: int(self._figure("caption_load_level"))
        found = load_clips(CLIPS_DIRECTORY, speakers=_VOICES)
        self._speakers = [
            _Speaker(self._track(number), found[_VOICES[number % len(_VOICES)]], clip=number)
            for number in range(options.speakers)
        ]
        self._samples: list[dict[str, float]] = []
        self._seconds_at: Counter[int] = Counter()

    def _track(self, number: int) -> RemoteTrack:
        self._peer.state.join(f"session{number}", f"user{number}")
        return RemoteTrack(
            track_id=f"track{number}",
            session_id=f"session{number}",
            source=TrackSource.VOICE,
            codec=Codec.OPUS,
            capacity=4096,
        )

    def _figure(self, name: str) -> float:
        return self._pipeline.figures()[name]

    async def run(self) -> dict[str, Any]:
        """The whole call and what follows; what was measured."""
        tracks: Channel[RemoteTrack] = Channel(len(self._speakers))
        for speaker in self._speakers:
            tracks.offer(speaker.track)
        running = asyncio.create_task(self._pipeline.run(tracks))
        sampling = asyncio.create_task(self._sample())
        few = self._speakers[:_FEW]
        await self._talk(few, _BEFORE_S)
        await self._talk(self._speakers, self._seconds)
        crowd_over_s = self._now_s()
        await self._talk(few, _AFTER_S, finishing=self._speakers[_FEW:])
        call_s = self._now_s()
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)
        left = int(self._figure("segments") - self._figure("segments_done"))
        self._pipeline.end_call()
        for speaker in self._speakers:
            speaker.track.end()
        await running
        return self._result(crowd_over_s=crowd_over_s, call_s=call_s, left=left)

    def _now_s(self) -> float:
        return (self._clock.monotonic_ns() - self._zero_ns) / 1e9

    async def _talk(
        self, crowd: Sequence[_Speaker], seconds: float, *, finishing: Sequence[_Speaker] = ()
    ) -> None:
        until_s = self._now_s() + seconds
        now_ns = self._clock.monotonic_ns()
        for speaker in crowd:
            if speaker.next_ns < now_ns - _PACKET_NS:
                speaker.next_ns = now_ns + round(self._rng.uniform(0.0, 1.5) * 1e9)
        while self._now_s() < until_s:
            now_ns = self._clock.monotonic_ns()
            for speaker in crowd:
                speaker.speak(now_ns, self._rng)
            finishing = [speaker for speaker in finishing if speaker.finish(now_ns)]
            await asyncio.sleep(_PACKET_NS / 1e9)

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            figures = self._pipeline.figures()
            sample = {
                "call_s": round(self._now_s(), 1),
                "level": figures["caption_load_level"],
                "backlog_s": figures["caption_backlog_s"],
                "dropped_s": figures["caption_audio_dropped_s"],
                "pieces_waiting": figures["segments"] - figures["segments_done"],
                "final_lag_p95_s": figures["caption_final_lag_p95_s"],
                "rss_mb": round(read_process_stats().rss_bytes / 2**20),
            }
            self._samples.append(sample)
            self._seconds_at[int(sample["level"])] += 1
            print(json.dumps(sample), flush=True)

    def _result(self, *, crowd_over_s: float, call_s: float, left: int) -> dict[str, Any]:
        segments = self._pipeline.backlog.segments
        words, errors = self._word_errors(segments)
        figures = self._pipeline.figures()
        in_call = [sample for sample in self._samples if sample["call_s"] <= call_s]
        calm = [
            sample["call_s"] - crowd_over_s
            for sample in in_call
            if sample["call_s"] > crowd_over_s
            and sample["level"] == 0
            and sample["backlog_s"] <= _RECOVERED_BACKLOG_S
        ]
        result: dict[str, Any] = {
            "speakers": len(self._speakers),
            "seconds": self._seconds,
            "words": words,
            "word_errors": errors,
            "segments_failed": figures["segments_failed"],
            "packets_dropped": figures["packets_dropped"],
            "highest_level": max(sample["level"] for sample in in_call),
            "seconds_at_level": dict(sorted(self._seconds_at.items())),
            "calls_by_level": {
                f"{level} {kind}": count
                for (level, kind), count in sorted(self._engine.calls.items())
            },
            "longest_backlog_s": max(sample["backlog_s"] for sample in in_call),
            "audio_dropped_s": figures["caption_audio_dropped_s"],
            "captions": self._peer.captions,
            "lines_dropped": figures["caption_lines_dropped"],
            "metrics": dict(self._peer.metrics),
            "recovered_after_s": round(calm[0], 1) if calm else None,
            "pieces_left_at_hang_up": left,
            "hang_up_to_transcript_s": round(self._now_s() - call_s, 1),
            "rss_growth_mb": max(s["rss_mb"] for s in self._samples) - self._samples[5]["rss_mb"],
        }
        return result | {"missed": _missed(result)}

    def _word_errors(self, segments: Sequence[Segment]) -> tuple[int, int]:
        words = errors = 0
        for speaker in self._speakers:
            heard = [
                word
                for segment in segments
                if segment.session_id == speaker.track.session_id
                for word in split_words(segment.text)
            ]
            words += len(speaker.said)
            errors += sum(step.operation != "same" for step in align(speaker.said, heard))
        return words, errors


def _missed(result: dict[str, Any]) -> list[str]:
    """What was promised and is not so."""
    promised = {
        "a transcript of all that was said": result["word_errors"] <= _WORD_ERRORS * result["words"]
        and not result["segments_failed"]
        and not result["packets_dropped"],
        "captions shed in time, and told": result["highest_level"] == 0
        or bool(result["metrics"].get(TRANSCRIBER_BUSY)),
        "whole utterances alone at level 3": not result["calls_by_level"].get("3 growing"),
        "no final text while captions are short of time": not any(
            result["calls_by_level"].get(f"{level} final") for level in (2, 3)
        ),
        "dropped sound told": not result["audio_dropped_s"]
        or bool(result["metrics"].get(WINDOW_DROPPED)),
        "a bounded backlog": result["longest_backlog_s"] <= _MOST_WAITING_S + _MARGIN_S,
        "bounded memory": result["rss_growth_mb"] <= _GROWTH_MB,
        "recovery": result["recovered_after_s"] is not None
        and result["recovered_after_s"] <= _RECOVERED_S,
    }
    return [text for text, kept in promised.items() if not kept]


if __name__ == "__main__":
    sys.exit(main())
