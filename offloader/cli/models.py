"""`offloader models …`: the speech models of this host. The transcriber, which knows them, is asked."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from offloader.backends.runner_images import own_image
from offloader.cli import output
from offloader.cli.failures import CommandFailed
from offloader.settings import load_settings

_MODULE: Final = "jobs.transcriber.model_files"
_SHORT_HASH: Final = 12


def list_models(arguments: argparse.Namespace) -> None:
    """Every model with its size, how it is stored, its hash and where it is.

    Raises:
        CommandFailed: there is no directory, or no transcriber here.
    """
    directory = _directory(arguments)
    models = _ask("list", str(directory))
    if arguments.json:
        output.print_json({"directory": str(directory), "models": models})
        return
    rows = [
        (
            model["name"],
            output.size(model["size_bytes"]),
            model["stored_as"],
            model["hashes"]["model.bin"][:_SHORT_HASH],
            _state(model),
            model["path"],
        )
        for model in models
    ]
    columns = ("model", "size", "stored as", "sha-256 of model.bin", "state", "where")
    output.print_table(columns, rows, empty=f"no model in {directory}: see docs/airgapped.md")


def verify(arguments: argparse.Namespace) -> None:
    """Is everything there that the engine needs, and is each file what its manifest says.

    Raises:
        CommandFailed: a model has a problem, or there is none.
    """
    directory = _directory(arguments)
    manifest = ["--manifest", str(arguments.manifest)] if arguments.manifest else []
    models = _ask("verify", *manifest, "--", str(directory), *arguments.name)
    if arguments.json:
        output.print_json({"directory": str(directory), "models": models})
    else:
        for model in models:
            compared = f"as {model['manifest']} says" if model["manifest"] else "no SHA256SUMS"
            print(f"{model['name']}: {'' if model['problems'] else f'good, {compared}'}".rstrip())
            for problem in model["problems"]:
                print(f"  {problem}")
    if not models:
        raise CommandFailed(f"{directory}: no model in it")
    if bad := [model["name"] for model in models if model["problems"]]:
        raise CommandFailed(f"{directory}: {', '.join(bad)}: should not be used")


def convert(arguments: argparse.Namespace) -> None:
    """A model for the engine from a folder with safetensors.

    Raises:
        CommandFailed: the text says which file is not as it should be.
    """
    target = _directory(arguments, must_exist=False) / (
        arguments.name or arguments.source.resolve().name
    )
    options = ["--quantization", arguments.quantization]
    [model] = _ask("convert", *options, "--", str(arguments.source), str(target))
    if arguments.json:
        output.print_json(model)
        return
    size = output.size(model["size_bytes"])
    print(f"{model['path']}: {size}, {model['stored_as']}, with SHA256SUMS")
    for problem in model["problems"]:
        print(f"  {problem}")
    if model["problems"]:
        raise CommandFailed(f"{model['path']}: should not be used")


def _directory(arguments: argparse.Namespace, *, must_exist: bool = True) -> Path:
    """`--models-dir`, else what the configuration says for its backend, else MODELS_DIR."""
    named: Path | None = arguments.models_dir
    if named is None:
        jobs = load_settings(arguments.config, os.environ).jobs
        configured = (
            jobs.docker.models_dir if jobs.api_type == "docker" else jobs.process.models_dir
        )
        # jobs.docker.models_dir may be the name of a volume.
        if configured.startswith("/"):
            named = Path(configured)
        elif "MODELS_DIR" in os.environ:
            named = Path(os.environ["MODELS_DIR"])
    if named is None:
        raise CommandFailed(
            "no directory of models is configured (jobs.process.models_dir, jobs.docker.models_dir): "
            "--models-dir DIR"
        )
    if must_exist and not named.is_dir():
        raise CommandFailed(f"{named}: no such directory")
    return named.absolute()


def _ask(*arguments: str) -> list[dict[str, Any]]:
    # -P: nothing of the directory that somebody stands in is taken for a module.
    command = [sys.executable, "-P", "-m", _MODULE, *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    try:
        document = json.loads(done.stdout)
    except ValueError:
        if "No module named" in done.stderr:
            raise CommandFailed(
                "the transcriber is not installed here, and it knows models: run this where it is, or "
                f"docker run --rm -v DIR:/models --entrypoint python {own_image('transcriber')} "
                f"-m {_MODULE} list /models"
            ) from None
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise CommandFailed(f"{_MODULE} ended with exit code {done.returncode}: {last}") from None
    if "error" in document:
        raise CommandFailed(document["error"])
    models: list[dict[str, Any]] = document["models"]
    return models


def _state(model: dict[str, Any]) -> str:
    return "; ".join(model["problems"]) or "good"
