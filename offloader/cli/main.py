"""Runs one command. Modules are imported when their command is chosen, so that `--help` is instant."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from foundation.layered_config import ConfigError
from offloader.cli.arguments import parser
from offloader.cli.failures import DONE, FAILED, CommandFailed
from offloader.errors import OffloaderError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is one of `failures`, with a line on standard error unless it is 0."""
    parsed = parser().parse_args(arguments)
    try:
        if parsed.command in (None, "serve"):
            from offloader.cli.serve import serve

            return serve(parsed.config)
        if parsed.command == "worker":
            from offloader.cli.worker import work

            return work(parsed.config)
        parsed.run(parsed)
        sys.stdout.flush()
    except CommandFailed as error:
        return _failed(str(error), error.exit_code)
    except (ConfigError, OffloaderError) as error:
        return _failed(str(error), FAILED)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read has seen enough; Python would complain again when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return DONE


def _failed(text: str, code: int) -> int:
    sys.stderr.write(f"offloader: {text.removeprefix('offloader: ')}\n")
    return code
