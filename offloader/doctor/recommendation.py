"""From what was measured to numbers of calls, threads and models. Pure; docs/doctor.md shows the arithmetic.

What a job costs on the machine of docs/scaling.md is scaled by how fast this one is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from offloader.capacity_auto import MEMORY_PER_POST_CALL_BYTES, Machine

REFERENCE_ENCODE_S: Final = 0.0037
"""CPU seconds a frame of `python -m jobs.selfcheck encode` on the machine of docs/scaling.md."""
_RECORDER_CORES: Final = 0.09
"""Half of the time a screen (docs/scaling.md, calls per host)."""
_RECEIVING_CORES: Final = 0.05
_FILLED: Final = 0.7
_SERVICE_CORES: Final = 0.5
_SERVICE_BYTES: Final = 1 << 30
_RECORDER_BYTES: Final = 160 << 20
_TRANSCRIBER_BYTES: Final = 240 << 20
"""Beside its models."""
_STEP_S: Final = 0.4
"""After so much new sound a speaker is heard again (docs/transcription.md, live captions)."""
_MOST_OF_A_CORE: Final = 1 / 1.2
"""A slower model is asked after 1.2 times its own time."""
_TALKING: Final = 1.5
_CAPTION_LIMIT_S: Final = 0.6
"""A hypothesis of captions has to be done in this time, or they lag."""
_TEXT_LIMIT: Final = 0.35
"""CPU per second of speech: an hour of talk is text after at most 11 minutes on two threads."""
_SIZES: Final = ("small", "base", "tiny")
"""What the System Console offers, the best first."""


@dataclass(frozen=True, slots=True)
class ModelCost:
    """Of one model, as `jobs.selfcheck model` measured it."""

    name: str
    """A size of the plugin's."""
    caption_cpu_s: float
    """For one hypothesis of ten seconds."""
    cpu_s_per_speech_s: float
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What this machine bears."""

    calls: int
    """With the captions of `caption_model`, where there is one; this is what `--write` puts in."""
    calls_without_captions: int
    cores_per_call: float
    caption_model: str
    """Empty: no model here is quick enough, or none was measured."""
    text_model: str
    threads: int
    slower: float
    """CPU for the same video, over that of the machine of docs/scaling.md."""


def recommend(
    machine: Machine,
    *,
    encode_s: float,
    models: Mapping[str, ModelCost],
    post_call_slots: int,
) -> Recommendation:
    """`encode_s`: CPU seconds a frame; `models` by size."""
    slower = encode_s / REFERENCE_ENCODE_S
    recorder = _RECORDER_CORES * slower
    receiving = _RECEIVING_CORES * slower
    threads = max(1, min(int(machine.cores / 2) or 1, 4))
    sizes = [size for size in _SIZES if size in models]
    text = next((s for s in sizes if models[s].cpu_s_per_speech_s <= _TEXT_LIMIT), "")
    # `small` takes seconds on most processors, and what captions need is speed.
    quick = [s for s in sizes if models[s].caption_cpu_s / threads <= _CAPTION_LIMIT_S]
    caption = next((s for s in quick if s != "small"), "")
    text_cores = models[text].cpu_s_per_speech_s if text else 0.08 * slower
    later = recorder + receiving + text_cores
    live = recorder + receiving + text_cores + _caption_cores(models.get(caption), slower)
    cores = max(machine.cores - _SERVICE_CORES, 0.5) * _FILLED
    memory = machine.memory_bytes - _SERVICE_BYTES
    after_call = max((models[m].peak_rss_bytes for m in (text,) if m), default=0)
    memory -= post_call_slots * max(after_call, MEMORY_PER_POST_CALL_BYTES)
    call_bytes = _RECORDER_BYTES + _TRANSCRIBER_BYTES
    caption_bytes = call_bytes + (models[caption].peak_rss_bytes if caption else 0)
    return Recommendation(
        calls=max(int(min(cores / live, memory / caption_bytes)), 1),
        calls_without_captions=max(int(min(cores / later, memory / call_bytes)), 1),
        cores_per_call=round(live, 2),
        caption_model=caption,
        text_model=text,
        threads=threads,
        slower=round(slower, 2),
    )


def _caption_cores(model: ModelCost | None, slower: float) -> float:
    """Of one call in which one or two talk; without a measurement what docs/scaling.md has for base."""
    if model is None:
        return 1.14 * slower
    return _TALKING * min(model.caption_cpu_s / _STEP_S, _MOST_OF_A_CORE)
