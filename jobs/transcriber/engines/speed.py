"""What a local model costs on this machine, whatever is said: one window encoded, so many tokens written."""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from jobs.transcriber.engines.devices import AUTOMATIC
from jobs.transcriber.engines.faster_whisper import FasterWhisperEngine

_WINDOW_S: Final = 30.0
_CAPTION_S: Final = 10.0
"""What captions' models hear at least (LIVE_CAPTIONS_CONTEXT_S)."""
_TOKENS: Final = 80
"""Of half a minute of quick talk; `make bench-speech` reckons with as many."""
_CAPTION_TOKENS: Final = 27
_RATE_HZ: Final = 16_000
_FRAMES_PER_S: Final = 100


def measure(model_dir: Path, *, threads: int) -> dict[str, Any]:
    """Load the model and let it hear noise, as one worker with `threads` threads.

    `window_s`, `caption_s`: seconds for half a minute of talk and for one hypothesis of captions, and
    `…_cpu_s` what they cost, which other load on the machine hardly changes. Blocks for seconds.

    Raises:
        EngineLoadError: no model there.
    """
    began_s = time.monotonic()
    engine = FasterWhisperEngine(
        model_dir, workers=1, threads_per_worker=threads, compute_type=AUTOMATIC
    )
    load_s = time.monotonic() - began_s
    model: Any = engine._model
    _hear(model, _CAPTION_S, 2)  # what is made with the first call only
    caption_s, caption_cpu_s = _hear(model, _CAPTION_S, _CAPTION_TOKENS)
    window_s, window_cpu_s = _hear(model, _WINDOW_S, _TOKENS)
    return {
        "model": engine.info.model,
        "device": engine.info.device,
        "compute_type": engine.info.compute_type,
        "threads": threads,
        "load_s": round(load_s, 3),
        "window_s": round(window_s, 4),
        "window_cpu_s": round(window_cpu_s, 4),
        "caption_s": round(caption_s, 4),
        "caption_cpu_s": round(caption_cpu_s, 4),
        "cpu_s_per_speech_s": round(window_cpu_s / _WINDOW_S, 5),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _hear(model: Any, seconds: float, tokens: int) -> tuple[float, float]:
    """Seconds, and CPU seconds, for features, encoder and exactly so many tokens."""
    noise = np.random.default_rng(3).normal(0, 0.05, round(seconds * _RATE_HZ))
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    features = model.feature_extractor(noise.astype(np.float32))[
        :, : round(seconds * _FRAMES_PER_S)
    ]
    encoded = model.encode(features)
    tokenizer = model.hf_tokenizer
    start = [tokenizer.token_to_id("<|startoftranscript|>")]
    end = tokenizer.token_to_id("<|endoftext|>")
    model.model.generate(
        encoded,
        [start],
        beam_size=1,
        max_length=len(start) + tokens,
        suppress_blank=False,
        suppress_tokens=[end],
    )
    return time.perf_counter() - began_s, time.process_time() - began_cpu_s
