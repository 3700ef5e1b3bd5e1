"""Step `media`: can jobs on this host decode, encode, write names and load the speech engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from offloader.doctor.docker import not_here
from offloader.doctor.finding import Finding, failure, note, ok, skipped, warning
from offloader.doctor.selfcheck import NoSelfcheck, run_selfcheck
from offloader.doctor.step import Context, Step

_TIMEOUT_S: Final = 25.0
_NEEDED: Final = {
    "recorder": {
        "libx264": "recordings cannot be encoded",
        "aac": "recordings have no sound",
        "libopus": "voices cannot be decoded",
        "libvpx": "screens in VP8 cannot be decoded",
    },
    "transcriber": {"libopus": "voices cannot be decoded"},
}
_WISHED: Final = {
    "recorder": {
        "libdav1d": "AV1 screens are asked for in VP8",
        "libvpx-vp9": "VP9 cannot be decoded",
        "h264": "H.264 cannot be decoded",
    },
    "transcriber": {},
}


async def look(context: Context) -> Sequence[Finding]:
    """Skipped where jobs run elsewhere."""
    if context.backend not in ("process", "docker"):
        return [skipped("media_elsewhere", "jobs", not_here(context))]
    found: list[Finding] = []
    for program in _NEEDED:
        try:
            facts = await run_selfcheck(context, program, "facts", timeout_s=_TIMEOUT_S)
        except NoSelfcheck as error:
            found.append(_cannot_run(program, str(error), context))
            continue
        found += judge(program, facts)
    return found


def _cannot_run(program: str, text: str, context: Context) -> Finding:
    own_command = "is not python -m" in text or "the plugin names" in text
    if own_command:
        return skipped("media_own_command", program, text)
    fix = (
        (f"docker run --rm --entrypoint python IMAGE -m jobs.selfcheck facts   # the {program}'s",)
        if context.backend == "docker"
        else (f"{context.settings.jobs.process.recorder_command[0]} -m jobs.selfcheck facts",)
    )
    make = failure if program == "recorder" else warning  # transcripts may not be wanted
    return make(
        "media_cannot_run",
        program,
        text,
        cause="its program does not run here, so no job of its kind does",
        fix=fix,
    )


def judge(program: str, facts: Mapping[str, Any]) -> Iterator[Finding]:
    """From what `jobs.selfcheck facts` tells."""
    codecs: Mapping[str, bool] = facts.get("codecs") or {}
    for name, effect in _NEEDED[program].items():
        if not codecs.get(name):
            yield failure(
                "media_codec_missing",
                f"{program}: {name}",
                "missing",
                cause=effect,
                fix=(
                    "pip install --force-reinstall av   # its wheel brings FFmpeg with all codecs",
                ),
            )
    for name, effect in _WISHED[program].items():
        if not codecs.get(name):
            yield note("media_codec_wished", f"{program}: {name}", "missing", cause=effect)
    if all(codecs.get(name) for name in _NEEDED[program]):
        there = ", ".join(name for name, has in codecs.items() if has)
        yield ok("media_codecs", f"{program}: codecs", there, data={"codecs": dict(codecs)})
    if program == "recorder":
        yield from _fonts(facts.get("fonts_missing"))
    else:
        yield from _speech(facts.get("speech"))


def _fonts(missing: Sequence[Mapping[str, str]] | None) -> Iterator[Finding]:
    if missing is None:
        return
    for part in missing:
        yield note(
            "media_fonts_missing",
            f"recorder: {part['package']}",
            "missing",
            cause=part["effect"],
            fix=(f"sudo apt install {part['package']}",),
        )
    if not missing:
        yield ok("media_fonts", "recorder: fonts", "all scripts and emoji")


def _speech(speech: Mapping[str, Any] | None) -> Iterator[Finding]:
    if speech is None or "error" in speech:
        yield warning(
            "media_no_speech",
            "transcriber: speech engine",
            "missing" if speech is None else str(speech["error"]),
            cause="no local model can be loaded: transcripts and captions need a speech service then",
            fix=("pip install '.[transcriber]'",),
        )
        return
    if "int8" not in speech.get("cpu_types", ()):
        yield warning(
            "media_no_int8",
            "transcriber: speech engine",
            f"CTranslate2 {speech.get('ctranslate2')} without int8",
            cause="this processor computes with floats only: models need four times as long",
            fix=("a processor with SSE4.1 or NEON", "COMPUTE_TYPE=float32 for the jobs"),
            data=dict(speech),
        )
        return
    gpus = int(speech.get("cuda_devices", 0))
    where = f"{gpus} CUDA device{'s' if gpus > 1 else ''}" if gpus else "processor"
    value = f"CTranslate2 {speech.get('ctranslate2')}, {where}"
    yield ok("media_speech", "transcriber: speech engine", value, data=dict(speech))


MEDIA: Final = Step("media", "Media", look, timeout_s=60)
