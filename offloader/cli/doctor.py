"""`offloader doctor`: examine this installation, say what to do, and write what was measured."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from offloader.cli import output
from offloader.cli.failures import BadUsage, CommandFailed
from offloader.doctor.examination import Examination, StepResult, examine
from offloader.doctor.finding import Verdict
from offloader.doctor.plugin_settings import PLACE, console_lines, environment_lines
from offloader.doctor.report import counted, step_lines
from offloader.doctor.step import Context
from offloader.doctor.steps import all_steps, chosen
from offloader.doctor.writing import CannotWrite, changed, diff, write
from offloader.settings import read_settings

TOKEN_VARIABLE: Final = "OFFLOADER_DOCTOR_TOKEN"
RTCD_VARIABLE: Final = "MM_CALLS_RTCD_SERVICE_URL"
EXIT_CODES: Final = {Verdict.OK: 0, Verdict.WARNING: 4, Verdict.FAILURE: 5}
"""By the worst verdict; 1 to 3 are those of all commands (`failures`)."""


class Verdicted(CommandFailed):
    """The examination is over, and not all is well."""

    def __init__(self, examination: Examination) -> None:
        super().__init__(f"doctor: {counted(examination)}")
        self.exit_code = EXIT_CODES[examination.verdict]


def doctor(arguments: argparse.Namespace) -> None:
    """Run the chosen steps, and tell.

    Raises:
        BadUsage: options of no use.
        CommandFailed: the token cannot be read, or the configuration not be written.
        Verdicted: there are warnings or failures.
    """
    try:
        steps = chosen(all_steps(), only=_names(arguments.only), skip=_names(arguments.skip))
    except ValueError as error:
        raise BadUsage(str(error)) from error
    context = context_of(arguments)
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def tell(step: StepResult) -> None:
        if not arguments.json:
            print(*step_lines(step, colour=colour), "", sep="\n", flush=True)

    examination = asyncio.run(examine(steps, context, tell=tell))
    document = _document(examination)
    if not arguments.json:
        print(counted(examination))
    if arguments.write:
        try:
            document["written"] = _write(examination, arguments)
        except CommandFailed as error:
            if arguments.json:  # what was found is not lost with it
                output.print_json(document | {"exit_code": error.exit_code, "written": None})
            raise
    if arguments.json:
        output.print_json(document)
    if examination.verdict is not Verdict.OK:
        raise Verdicted(examination)


def _document(examination: Examination) -> dict[str, Any]:
    plugin = examination.plugin()
    return examination.document() | {
        "exit_code": EXIT_CODES[examination.verdict],
        "system_console": list(console_lines(plugin)),
        "plugin_environment": list(environment_lines(plugin)),
    }


def _write(examination: Examination, arguments: argparse.Namespace) -> dict[str, Any]:
    """Show the difference, ask where somebody can answer, write; then what is to be set in Mattermost."""
    path: Path = arguments.config.resolve()
    tell = (lambda *_: None) if arguments.json else print
    backup: Path | None = None
    try:
        before, after = changed(path, examination.settings())
        difference = diff(path, before, after)
        wanted = bool(difference)
        tell(
            f"\n{difference}"
            if wanted
            else f"\n{path}: nothing to change: it agrees with what was measured"
        )
        asking = sys.stdin.isatty() and not (arguments.yes or arguments.json)
        if wanted and asking:
            wanted = input(f"Write this to {path}? [y/N] ").strip().lower() in ("y", "yes")
        if wanted:
            backup = write(path, before, after, os.environ)
            kept = f"; as it was: {backup}" if backup else ""
            tell(f"{path}: written{kept}; in force after: systemctl restart calls-offloader")
    except CannotWrite as error:
        raise CommandFailed(f"--write: {error}") from error
    for name in _overridden(arguments.config, examination.settings()):
        tell(f"note: {name} in this environment takes the place of what the file says")
    _tell_plugin(examination, tell)
    return {
        "file": str(path),
        "written": wanted,
        "diff": difference,
        "backup": str(backup) if backup else None,
    }


def _overridden(path: Path, values: Mapping[str, Any]) -> list[str]:
    sources = read_settings(path, os.environ).sources
    return [sources[key] for key in values if sources.get(key) not in ("file", "default", None)]


def _tell_plugin(examination: Examination, tell: Callable[..., object]) -> None:
    plugin = examination.plugin()
    if not plugin:
        return
    tell(f"\nIn Mattermost, {PLACE} (restart the plugin afterwards):")
    for line in console_lines(plugin):
        tell(f"  {line}")
    tell("or in the environment of the Mattermost server:")
    for line in environment_lines(plugin):
        tell(f"  {line}")


def context_of(arguments: argparse.Namespace) -> Context:
    """What the options say; raises as `doctor`."""
    reading = read_settings(arguments.config, os.environ)
    return Context(
        config_path=arguments.config,
        reading=reading,
        environ=os.environ,
        site_url=_site_url(arguments.site_url),
        token=_token(arguments.token, arguments.token_file),
        ca_file=arguments.ca_cert or reading.settings.jobs.network.ca_cert_file,
        rtcd_url=arguments.rtcd_url or os.environ.get(RTCD_VARIABLE, ""),
        channel=arguments.channel or "",
        worker=getattr(arguments, "worker", False),
        quick=arguments.quick,
    )


def _names(given: Sequence[str]) -> list[str]:
    """Each option may name several steps, with commas."""
    return [name.strip() for text in given for name in text.split(",")]


def _site_url(text: str | None) -> str:
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises, like an address in wrong brackets
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        shown = f"***@{text.rpartition('@')[2]}" if "@" in text else text
        raise BadUsage(f"--site-url: {shown!r}: should be a URL such as https://chat.example.com")
    return text.rstrip("/")


def _token(option: str | None, file: Path | None) -> str:
    """Of the option (which everybody on the host can read), the file, or the variable; in this order."""
    if option is not None and file is not None:
        raise BadUsage("--token and --token-file: give one of them")
    if option is not None:
        return option.strip()
    if file is None:
        return os.environ.get(TOKEN_VARIABLE, "").strip()
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CommandFailed(f"--token-file: {file}: cannot be read: {reason}") from error
    return text.strip()
