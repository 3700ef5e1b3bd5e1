"""Step `benchmark`: about ten seconds of the jobs' own work, and what that means for the configuration."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Final

from offloader.capacity_auto import read_machine
from offloader.doctor.finding import Finding, note, ok, skipped, warning
from offloader.doctor.models import SMALLEST_BYTES
from offloader.doctor.recommendation import ModelCost, Recommendation, recommend
from offloader.doctor.selfcheck import NoSelfcheck, models_dir_there, run_selfcheck
from offloader.doctor.step import Context, Step

_WHAT: Final = "benchmark"
_ENCODE_S: Final = 3
_TIMEOUT_S: Final = 40.0
_SIZES: Final = ("tiny", "base", "small")
_ASKED_BYTES: Final = 600 << 20
"""Larger models take longer than this step may."""


async def look(context: Context) -> Sequence[Finding]:
    """Skipped with `--quick`, and where jobs run elsewhere."""
    if context.quick:
        return [skipped("benchmark_quick", _WHAT, "--quick")]
    try:
        encoded = await run_selfcheck(
            context, "recorder", "encode", str(_ENCODE_S), timeout_s=_TIMEOUT_S
        )
    except NoSelfcheck as error:
        return [skipped("benchmark_impossible", _WHAT, str(error))]
    found = [_encoded(encoded)]
    costs, told = await _models(context)
    found += told
    machine = read_machine(own_limits=context.backend == "process", root=context.root)
    result = recommend(
        machine,
        encode_s=float(encoded["cpu_s_per_frame"]),
        models=costs,
        post_call_slots=context.settings.jobs.post_call_slots,
    )
    return [*found, *_calls(result, context), *_plugin(result)]


def _encoded(encoded: Mapping[str, Any]) -> Finding:
    per_s = float(encoded["cpu_s_per_recorded_s"])
    return ok(
        "benchmark_encoder",
        "recorder's encoder, 720p20, a page that scrolls",
        f"{per_s:.3f} CPU seconds per recorded second",
        data=dict(encoded),
    )


async def _models(context: Context) -> tuple[dict[str, ModelCost], list[Finding]]:
    directory = models_dir_there(context)
    costs: dict[str, ModelCost] = {}
    found: list[Finding] = []
    try:
        listed = await run_selfcheck(
            context, "transcriber", "models", str(directory), timeout_s=_TIMEOUT_S
        )
    except NoSelfcheck as error:
        return {}, [skipped("benchmark_no_model", "speech models", str(error))]
    there = {str(each["name"]): int(each["bytes"]) for each in listed["models"]}
    for size in _SIZES:
        names = [name for name in (size, f"faster-whisper-{size}") if name in there]
        if not names or not SMALLEST_BYTES <= there[names[0]] <= _ASKED_BYTES:
            continue  # toys tell nothing
        what = f"model {names[0]}, 2 threads"
        try:
            told = await run_selfcheck(
                context,
                "transcriber",
                "model",
                str(directory / names[0]),
                "2",
                timeout_s=_TIMEOUT_S,
            )
        except NoSelfcheck as error:
            cause = "a transcribing job with this model fails alike"
            found.append(warning("benchmark_model_fails", what, str(error), cause=cause))
            continue
        costs[size] = ModelCost(
            size,
            float(told["caption_cpu_s"]),
            float(told["cpu_s_per_speech_s"]),
            int(told["peak_rss_bytes"]),
        )
        value = (
            f"{told['cpu_s_per_speech_s']:.3f} CPU seconds per second of speech, "
            f"captions {told['caption_cpu_s']:.2f} per hypothesis"
        )
        found.append(ok("benchmark_model", what, value, data=dict(told)))
    if not costs and not found:
        why = f"no real one of {', '.join(_SIZES)} in {directory}: docs/scaling.md has to do"
        found.append(skipped("benchmark_no_model", "speech models", why))
    return costs, found


def _calls(result: Recommendation, context: Context) -> list[Finding]:
    """What the configuration should say, and what it says."""
    settings = context.settings
    if context.worker:
        key, configured = "worker.slots", settings.worker.slots
    else:
        key, configured = "jobs.max_concurrent_jobs", settings.jobs.max_concurrent_jobs or 0
    data = {
        "calls": result.calls,
        "calls_without_captions": result.calls_without_captions,
        "cores_per_call": result.cores_per_call,
        "slower_than_documented": result.slower,
        "configured": configured,
    }
    value = (
        f"{result.calls} with live captions, {result.calls_without_captions} without; "
        f"{key} is {configured}"
    )
    write = {key: result.calls}
    worker = " --worker" if context.worker else ""
    config = shlex.quote(str(context.config_path))
    fix = (
        f"{key} = {result.calls}",
        f"offloader doctor --config {config}{worker} --only benchmark --write",
    )
    if configured > result.calls_without_captions:
        return [
            warning(
                "benchmark_too_many",
                "calls at the same time",
                value,
                cause="with so many captions lag, and recordings lose pictures",
                fix=fix,
                data=data,
                settings=write,
            )
        ]
    if not result.calls <= configured:
        return [
            note(
                "benchmark_more_possible",
                "calls at the same time",
                value,
                cause="this host bears more calls than it is allowed to take",
                fix=fix,
                data=data,
                settings=write,
            )
        ]
    return [ok("benchmark_calls", "calls at the same time", value, data=data)]


def _plugin(result: Recommendation) -> list[Finding]:
    """Models and threads are the plugin's settings."""
    plugin: dict[str, Any] = {"TranscriberNumThreads": result.threads}
    if result.text_model:
        plugin["TranscriberModelSize"] = result.text_model
    if result.caption_model:
        plugin["LiveCaptionsModelSize"] = result.caption_model
        plugin["LiveCaptionsNumTranscribers"] = 1
        plugin["LiveCaptionsNumThreadsPerTranscriber"] = result.threads
    elif result.text_model:
        return [
            warning(
                "benchmark_no_captions",
                "models and threads",
                f"transcripts {result.text_model}, no model for live captions",
                cause="each model here takes longer than 0.6 s for one hypothesis: captions would lag",
                fix=("the model tiny", "or leave live captions off"),
                plugin=plugin | {"EnableLiveCaptions": False},
            )
        ]
    value = (
        f"transcripts {result.text_model or 'not measured'}, "
        f"captions {result.caption_model or 'not measured'}, threads {result.threads}"
    )
    return [ok("benchmark_models", "models and threads", value, plugin=plugin)]


BENCHMARK: Final = Step("benchmark", "Self-benchmark", look, timeout_s=150)
