"""Step `models`: are the speech models where jobs look for them, whole, and small enough for the memory."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from offloader.capacity_auto import Machine, read_machine
from offloader.doctor.docker import engine_address, not_here
from offloader.doctor.finding import Finding, failure, note, ok, skipped, warning
from offloader.doctor.machine import size, user_name
from offloader.doctor.selfcheck import NoSelfcheck, models_dir_there, run_selfcheck
from offloader.doctor.step import Context, Step, aside

_WHAT: Final = "models"
_DEFAULTS: Final = {"base": "transcripts", "tiny": "live captions"}
"""What the plugin asks for unless it is told otherwise (calls-plugin.md 6.4)."""
_NO_TRANSCRIPTS: Final = "transcribing jobs end at their start; recordings are not affected"
_FILES: Final = ("config.json", "tokenizer.json")
SMALLEST_BYTES: Final = 10 << 20
"""The smallest real one, tiny in int8, has 39 MB."""
_BESIDE_BYTES: Final = 400 << 20
"""What a transcriber needs beside its model (docs/performance.md, a long meeting)."""
_VERIFY_S: Final = 80.0
_SERVICE_BYTES: Final = 1 << 30
_PREFIXES: Final = ("", "faster-whisper-", "faster-")


@dataclass(frozen=True, slots=True)
class Model:
    """A folder that a job finds by its name."""

    name: str
    size_bytes: int


async def look(context: Context) -> Sequence[Finding]:
    """The directory of process jobs or of the containers; skipped where jobs run elsewhere."""
    if context.backend == "kubernetes":
        claim = context.settings.jobs.kubernetes.models_claim
        why = f"on the claim {claim}" if claim else "in the transcriber's image"
        return [skipped("models_elsewhere", _WHAT, f"{why}: not in reach from here")]
    if context.backend not in ("process", "docker"):
        return [skipped("models_elsewhere", _WHAT, not_here(context))]
    machine = read_machine(own_limits=context.backend == "process", root=context.root)
    directory = host_directory(context)
    if directory is not None:
        key = f"jobs.{context.backend}.models_dir"
        found = await aside(lambda: list(judge_directory(directory, machine, key=key)))
        if any(each.code in ("models_there", "models_toy") for each in found):
            found += await _verified(context)
        return found
    try:
        there = str(models_dir_there(context))
        told = await run_selfcheck(context, "transcriber", "models", there, timeout_s=20)
    except NoSelfcheck as error:
        return [skipped("models_unseen", _WHAT, str(error))]
    models = [Model(str(each["name"]), int(each["bytes"])) for each in told["models"]]
    return list(judge(models, "in the transcriber's image or volume", machine))


async def _verified(context: Context) -> list[Finding]:
    """Each file against its model's SHA256SUMS, as `offloader models verify` does."""
    what = "hashes of the models"
    if context.quick:
        return [skipped("models_hashes_quick", what, "--quick")]
    there = str(models_dir_there(context))
    try:
        told = await run_selfcheck(
            *(context, "transcriber", "verify", there),
            timeout_s=_VERIFY_S,
            module="jobs.transcriber.model_files",
        )
    except NoSelfcheck as error:
        return [skipped("models_not_verified", what, str(error))]
    bad = [model for model in told["models"] if model["problems"]]
    found = [
        failure(
            "models_damaged",
            f"model {model['name']}",
            "; ".join(model["problems"]),
            cause="it is not what its SHA256SUMS or its own parts say",
            fix=(f"copy it again, then: offloader models verify {model['name']}",),
        )
        for model in bad
    ]
    with_sums = [model["name"] for model in told["models"] if model["manifest"]]
    if not bad:
        value = (
            f"as SHA256SUMS says: {', '.join(with_sums)}" if with_sums else "no SHA256SUMS there"
        )
        found.append(ok("models_whole", what, value, data={"verified": with_sums}))
    return found


def host_directory(context: Context) -> Path | None:
    """The directory of this host that has the models; None: they are in an image or a volume."""
    if context.backend == "process":
        return models_dir_there(context)
    named = context.settings.jobs.docker.models_dir
    if named.startswith("/") and engine_address(context).startswith("unix:"):
        return Path(named)
    return None


def installed(directory: Path) -> list[Model]:
    """By name. Blocks."""
    return [
        Model(path.parent.name, path.stat().st_size)
        for path in sorted(directory.glob("*/model.bin"))
    ]


def judge_directory(
    directory: Path, machine: Machine, *, key: str = "jobs.process.models_dir"
) -> Iterator[Finding]:
    """What is in it; `key` is the setting that names it. Blocks."""
    try:
        models = installed(directory)
        entries = [path.name for path in directory.iterdir()]
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        yield warning(
            "models_no_directory" if missing else "models_unreadable",
            _WHAT,
            f"{directory}: {error.strerror}",
            cause=_NO_TRANSCRIPTS if missing else f"{user_name()} may not read it",
            fix=(
                (f"{key} = DIRECTORY", "offloader models --help")
                if missing
                else (f"sudo chmod -R a+rX {directory}", f"namei -l {directory}")
            ),
        )
        return
    if any(re.fullmatch(r"ggml-.*\.bin", name) for name in entries) and not models:
        yield warning(
            "models_ggml",
            _WHAT,
            f"{directory}: ggml-*.bin",
            cause="these are whisper.cpp's: the transcriber loads CTranslate2's folders",
            fix=("offloader models convert   # from safetensors", "models/README.md"),
        )
        return
    for model in models:
        lacking = [name for name in _FILES if not (directory / model.name / name).is_file()]
        if lacking:
            yield failure(
                "models_incomplete",
                f"model {model.name}",
                f"without {', '.join(lacking)}",
                cause="it cannot be loaded",
                fix=(f"copy the whole folder again to {directory / model.name}",),
            )
    yield from judge(models, str(directory), machine)


def judge(models: Sequence[Model], place: str, machine: Machine) -> Iterator[Finding]:
    """Those that are missing, toys, too large; the rest is well."""
    if not models:
        yield warning(
            "models_none",
            _WHAT,
            f"{place}: no model",
            cause=_NO_TRANSCRIPTS,
            fix=("offloader models --help", "or the bundle's models"),
        )
        return
    names = {model.name for model in models}
    for name, purpose in _DEFAULTS.items():
        if not any(prefix + name in names for prefix in _PREFIXES):
            yield warning(
                "models_default_missing",
                f"model {name}",
                "missing",
                cause=f"the plugin asks for it for {purpose}, unless it is told otherwise",
                fix=(
                    f"add it to {place}",
                    f"or choose another size in the System Console: {', '.join(sorted(names))}",
                ),
            )
    room = machine.memory_bytes - _SERVICE_BYTES
    for model in models:
        data = {"bytes": model.size_bytes}
        if model.size_bytes < SMALLEST_BYTES:
            yield note(
                "models_toy",
                f"model {model.name}",
                size(model.size_bytes),
                cause="too small for a real one: the bundled model knows 97 words and nothing else",
                fix=(f"replace it by a real one: {place}",),
                data=data,
            )
        elif model.size_bytes + _BESIDE_BYTES > room:
            yield warning(
                "models_too_large",
                f"model {model.name}",
                f"{size(model.size_bytes)}, memory {size(machine.memory_bytes)}",
                cause="a job with it is killed for memory",
                fix=("a smaller size in the System Console", "more memory"),
                data=data,
            )
        else:
            yield ok("models_there", f"model {model.name}", size(model.size_bytes), data=data)


MODELS: Final = Step("models", "Speech models", look, timeout_s=120)
