"""What every command has: where its configuration is, how it reaches the service, what carries it out."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

from offloader.setting_keys import DEFAULT_CONFIG_PATH

Action = Callable[[argparse.Namespace], None]
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


class Group:
    """A command with commands of its own."""

    def __init__(self, commands: Commands, name: str, text: str) -> None:
        self._name = name
        group = commands.add_parser(name, help=text, description=text)
        self._commands = group.add_subparsers(dest="action", metavar="COMMAND", required=True)

    def add(
        self, name: str, function: str, text: str, *, module: str = ""
    ) -> argparse.ArgumentParser:
        """`function` is the name in the module of the group, or in `module`."""
        command = self._commands.add_parser(name, help=text, description=text)
        add_common(command)
        if self._name in ("config", "models", "notify", "audit", "store"):
            command.set_defaults(run=locally(self._name, function))
        else:
            add_door(command)
            command.set_defaults(run=at_the_service(module or self._name, function))
        return command


def locally(module: str, function: str) -> Action:
    def run(arguments: argparse.Namespace) -> None:
        action: Action = getattr(import_module(f"offloader.cli.{module}"), function)
        action(arguments)

    return run


def at_the_service(module: str, function: str) -> Action:
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


def add_common(command: argparse.ArgumentParser) -> None:
    add_config(command, default=argparse.SUPPRESS)
    command.add_argument("--json", action="store_true", help="JSON instead of text")


def add_config(command: argparse.ArgumentParser, *, default: Path | str) -> None:
    command.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=default,
        help=f"TOML file (default {DEFAULT_CONFIG_PATH}; a missing file means defaults)",
    )


def add_door(command: argparse.ArgumentParser) -> None:
    command.add_argument("--socket", type=Path, metavar="PATH", help="the service's local socket")
    command.add_argument("--url", help="a service elsewhere, such as https://host:4545")
    command.add_argument("--ca-cert", type=Path, metavar="FILE", help="PEM file of its CA")


def add_id(command: argparse.ArgumentParser) -> None:
    command.add_argument("id", metavar="JOB")
