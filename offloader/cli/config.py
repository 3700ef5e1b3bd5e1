"""`offloader config …`: is the configuration right, what is in force, what is there to set."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from foundation.layered_config import Problem
from offloader.cli import output
from offloader.cli.config_docs import configuration_page, sample_file
from offloader.cli.failures import CommandFailed
from offloader.setting_files import unusable_files
from offloader.setting_keys import KEYS
from offloader.settings import Reading, read_settings


def check(arguments: argparse.Namespace) -> None:
    """Print every problem and every unknown key.

    Raises:
        CommandFailed: there is a problem; with `--strict`, or an unknown key, or no file.
    """
    path: Path = arguments.config
    reading = read_settings(path, os.environ)
    problems = list(reading.problems)
    if not problems:
        problems += unusable_files(reading)
    warnings = list(reading.settings.warnings)
    if arguments.strict:
        problems += _strict_problems(path, reading)
        warnings = [text for text in warnings if not text.startswith(f"{path}: ")]  # errors now
    if arguments.json:
        output.print_json({"problems": [_document(p) for p in problems], "warnings": warnings})
    else:
        for problem in problems:
            print(f"error: {problem}{_value(problem)}")
        for warning in warnings:
            print(f"warning: {warning}")
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise CommandFailed(f"{path}: {count}: the service would not start as wanted")
    if not arguments.json:
        print(f"{path}: good" if reading.file_found else "defaults and environment: good")


def show(arguments: argparse.Namespace) -> None:
    """What is in force and where it comes from; secrets as `***`.

    Raises:
        CommandFailed: it cannot be used.
    """
    reading = read_settings(arguments.config, os.environ)
    if reading.problems:
        raise CommandFailed(f"{reading.problems[0]}: `config check` shows all problems")
    values = {
        name: {"value": _shown(name, value), "source": reading.sources[name]}
        for name, value in reading.values.items()
    }
    limit = reading.settings.jobs.max_concurrent_jobs
    if limit != reading.values["jobs.max_concurrent_jobs"]:
        means = "no limit beside the workers' slots" if limit is None else limit
        values["jobs.max_concurrent_jobs"]["means"] = means
    if arguments.json:
        output.print_json({"file": str(arguments.config), "values": values})
        return
    rows = [
        (name, _text(entry["value"], entry.get("means")), _source(entry["source"]))
        for name, entry in values.items()
    ]
    output.print_table(("key", "value", "source"), rows, empty="")


def docs(arguments: argparse.Namespace) -> None:
    """The page `docs/configuration.md`; with `--sample` a file with every key; with `--json` the table."""
    if arguments.sample:
        print(sample_file(), end="")
        return
    if not arguments.json:
        print(configuration_page(), end="")
        return
    table = [
        {
            "key": name,
            "environment": key.env,
            "kind": key.kind,
            "default": _plain(key.default),
            "help": key.help,
        }
        for name, key in KEYS.items()
    ]
    output.print_json({"keys": table})


def _strict_problems(path: Path, reading: Reading) -> Iterator[Problem]:
    if not reading.file_found:
        yield Problem(str(path), "", "", "no such file", f"{path}: no such file")
    for name in reading.unknown:
        text = "unknown key: see `offloader config docs`"
        yield Problem(str(path), name, "", text, f"{path}: {name}: {text}")


def _document(problem: Problem) -> dict[str, str]:
    return {
        "place": problem.place,
        "key": problem.key,
        "value": problem.value,
        "wanted": problem.text,
    }


def _value(problem: Problem) -> str:
    """The value, where the line does not name it yet."""
    told = str(problem).replace(problem.place, "")  # a path may hold anything
    if not problem.value or problem.value in told or problem.value == "***":
        return ""
    return f" (it is {problem.value})"


def _shown(name: str, value: Any) -> Any:
    if KEYS[name].secret and value:
        return "***"
    if name == "store.data_source" and "://" in str(value):
        return _without_password(str(value))
    return _plain(value)


def _without_password(url: str) -> str:
    """`postgresql://user:***@host/name`."""
    scheme, _, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    if not at:
        return url
    user, colon, _ = credentials.partition(":")
    return f"{scheme}://{user}{':***' if colon else ''}@{place}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def _text(value: Any, means: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"{text} (here: {means})" if means is not None else text


def _source(source: str) -> str:
    return source if source in ("default", "file") else f"environment {source}"
