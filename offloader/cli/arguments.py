"""The command line: commands, options, their help. Sets `run` to what carries the command out."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Final

from offloader.models import JobState, JobType
from offloader.setting_keys import DEFAULT_CONFIG_PATH

_EXIT_CODES: Final = """\
exit codes: 0 done; 1 refused or failed, one sentence on standard error says why; 2 bad usage;
3 the service cannot be reached. Commands reach the service by its local socket (api.admin_socket,
for root and the service's own user), else by its address with the admin's key of the configuration.
"""

Action = Callable[[argparse.Namespace], None]


def parser() -> argparse.ArgumentParser:
    """All commands."""
    top = argparse.ArgumentParser(
        prog="offloader",
        description="Job service for recording and transcribing Mattermost calls.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_config(top, default=DEFAULT_CONFIG_PATH)
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the service (also without COMMAND)")
    _add_config(serve, default=argparse.SUPPRESS)
    _add_jobs(_Group(commands, "jobs", "look at jobs, stop them, publish what they left"))
    _add_clients(_Group(commands, "clients", "who may use the service"))
    _add_state(commands)
    _add_configuration(_Group(commands, "config", "check and explain the configuration"))
    return top


class _Group:
    """A command with commands of its own."""

    def __init__(
        self, commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
    ) -> None:
        self._name = name
        group = commands.add_parser(name, help=text, description=text)
        self._commands = group.add_subparsers(dest="action", metavar="COMMAND", required=True)

    def add(self, name: str, function: str, text: str) -> argparse.ArgumentParser:
        """`function` is the name in the module of the group."""
        command = self._commands.add_parser(name, help=text, description=text)
        _add_common(command)
        if self._name == "config":
            command.set_defaults(run=_locally(self._name, function))
        else:
            _add_door(command)
            command.set_defaults(run=_at_the_service(self._name, function))
        return command


def _add_jobs(group: _Group) -> None:
    command = group.add("list", "list_jobs", "jobs, the newest first")
    command.add_argument("--type", choices=[kind.value for kind in JobType])
    command.add_argument("--state", choices=[state.value for state in JobState])
    command.add_argument(
        "--since", metavar="TIME", help="2h, 7d, or a time such as 2026-01-31T10:00:00Z"
    )
    command.add_argument("--limit", type=_positive, default=50, metavar="N", help="at most (50)")
    command = group.add("show", "show", "everything about one job, and its last log lines")
    _add_id(command)
    command = group.add("logs", "logs", "the log of a job, also when it is gone")
    _add_id(command)
    command.add_argument("-f", "--follow", action="store_true", help="go on until the job ends")
    command = group.add("stop", "stop", "tell a job to leave its call, finish and upload")
    _add_id(command)
    command = group.add("artifacts", "artifacts", "the files a job left; with NAME, fetch them")
    _add_id(command)
    command.add_argument("name", nargs="*", metavar="NAME", help="a file to fetch")
    command.add_argument("-o", "--output", type=Path, metavar="DIR", help="where to (here)")
    command = group.add("republish", "republish", "try now to publish what a job could not")
    _add_id(command)
    command.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="a token of the Calls bot for its site, - for standard input; else the newest known one",
    )


def _add_clients(group: _Group) -> None:
    group.add("list", "list_clients", "the registered clients")
    for name, text in (
        ("add", "register a client"),
        ("rotate", "give a client another key; the old one ends at once"),
    ):
        command = group.add(name, name, text)
        command.add_argument("client_id", metavar="ID")
        command.add_argument(
            "--key-file",
            type=Path,
            metavar="FILE",
            help="its key, - for standard input; else a new random one is made and shown",
        )
    command = group.add("revoke", "revoke", "forget a client; its jobs go on")
    command.add_argument("client_id", metavar="ID")


def _add_state(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, text in (
        ("status", "calls in progress, unpublished results, and whether a restart is safe"),
        ("drain", "refuse new jobs"),
        ("undrain", "take new jobs again"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        _add_common(command)
        _add_door(command)
        command.set_defaults(run=_at_the_service("status", name))
        if name == "status":
            command.add_argument(
                "--safe", action="store_true", help="exit code 1 unless a restart is safe"
            )
        if name == "drain":
            command.add_argument("--wait", action="store_true", help="until no job is running")
            command.add_argument(
                "--timeout", type=_positive, metavar="S", help="seconds to wait at most"
            )


def _add_configuration(group: _Group) -> None:
    command = group.add("check", "check", "every problem, with file, key, value and wanted form")
    command.add_argument("--strict", action="store_true", help="refuse unknown keys too")
    group.add("show", "show", "the values in force and where they come from")
    command = group.add("docs", "docs", "the page that explains every key")
    command.add_argument("--sample", action="store_true", help="a file with every key instead")


def _locally(module: str, function: str) -> Action:
    def run(arguments: argparse.Namespace) -> None:
        action: Action = getattr(import_module(f"offloader.cli.{module}"), function)
        action(arguments)

    return run


def _at_the_service(module: str, function: str) -> Action:
    def run(arguments: argparse.Namespace) -> None:
        from offloader.cli.doors import find_door
        from offloader.cli.requests import ServiceClient
        from offloader.settings import load_settings

        door = find_door(
            load_settings(arguments.config, os.environ).api,
            socket_path=arguments.socket,
            url=arguments.url,
            ca_file=arguments.ca_cert,
        )
        action = getattr(import_module(f"offloader.cli.{module}"), function)
        action(ServiceClient(door), arguments)

    return run


def _add_common(command: argparse.ArgumentParser) -> None:
    _add_config(command, default=argparse.SUPPRESS)
    command.add_argument("--json", action="store_true", help="JSON instead of text")


def _add_door(command: argparse.ArgumentParser) -> None:
    command.add_argument("--socket", type=Path, metavar="PATH", help="the service's local socket")
    command.add_argument("--url", help="a service elsewhere, such as https://host:4545")
    command.add_argument("--ca-cert", type=Path, metavar="FILE", help="PEM file of its CA")


def _add_id(command: argparse.ArgumentParser) -> None:
    command.add_argument("id", metavar="JOB")


def _add_config(command: argparse.ArgumentParser, *, default: Path | str) -> None:
    command.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=default,
        help=f"TOML file (default {DEFAULT_CONFIG_PATH}; a missing file means defaults)",
    )


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: should be a whole number above 0")
    return value
