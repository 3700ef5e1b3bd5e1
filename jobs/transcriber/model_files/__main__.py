"""`python -m jobs.transcriber.model_files list|verify|convert …`: one JSON document on standard output.

    list DIR                                  every model in DIR
    verify DIR [NAME …] [--manifest FILE]     the same, compared with SHA256SUMS
    convert SOURCE TARGET [--quantization Q]  TARGET from a folder with safetensors

Exit code 1 with `{"error": text}` when something cannot be done; problems of models are in the document,
with exit code 0.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jobs.transcriber.model_files.binary import ModelFileError
from jobs.transcriber.model_files.folder import find_folders, look_at

_QUANTIZATIONS = ("float16", "int8", "float32")


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m jobs.transcriber.model_files")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("list")
    command.add_argument("directory", type=Path)
    command = commands.add_parser("verify")
    command.add_argument("directory", type=Path)
    command.add_argument("names", nargs="*")
    command.add_argument("--manifest", type=Path)
    command = commands.add_parser("convert")
    command.add_argument("source", type=Path)
    command.add_argument("target", type=Path)
    command.add_argument("--quantization", choices=_QUANTIZATIONS, default=_QUANTIZATIONS[0])
    given = parser.parse_args(arguments)
    try:
        document = _convert(given) if given.command == "convert" else _look(given)
    except ModelFileError as error:
        return _print({"error": str(error)}, 1)
    except OSError as error:
        return _print({"error": f"{error.filename or given.command}: {error.strerror}"}, 1)
    return _print(document, 0)


def _look(given: argparse.Namespace) -> dict[str, Any]:
    directory: Path = given.directory
    if not directory.is_dir():
        raise ModelFileError(f"{directory}: no such directory")
    manifest: Path | None = getattr(given, "manifest", None)
    folders = list(find_folders(directory))
    if names := getattr(given, "names", None):
        folders = [directory / name for name in names]
        for folder in folders:
            if not folder.is_dir():
                raise ModelFileError(f"{folder}: no such model")
    return {"models": [asdict(look_at(folder, manifest=manifest)) for folder in folders]}


def _convert(given: argparse.Namespace) -> dict[str, Any]:
    from jobs.transcriber.model_files.conversion import convert

    convert(given.source, given.target, quantization=given.quantization)
    return {"models": [asdict(look_at(given.target))]}


def _print(document: dict[str, Any], code: int) -> int:
    sys.stdout.write(json.dumps(document, ensure_ascii=True) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
