"""Parses the command line. Subcommands import what they need themselves, so that `--help` is instant."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from foundation.layered_config import ConfigError
from offloader.errors import OffloaderError
from offloader.setting_keys import DEFAULT_CONFIG_PATH


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0, or 1 with a line on standard error, or 2 for bad usage."""
    parsed = _parser().parse_args(arguments)
    from offloader.cli.serve import serve

    try:
        return serve(parsed.config)
    except (ConfigError, OffloaderError) as error:
        sys.stderr.write(f"offloader: {str(error).removeprefix('offloader: ')}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="offloader", description="Job service for recording and transcribing Mattermost calls."
    )
    _add_config(parser, default=DEFAULT_CONFIG_PATH)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the service (also without COMMAND)")
    _add_config(serve, default=argparse.SUPPRESS)
    return parser


def _add_config(parser: argparse.ArgumentParser, *, default: Path | str) -> None:
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=default,
        help=f"TOML file (default {DEFAULT_CONFIG_PATH}; a missing file means defaults)",
    )
