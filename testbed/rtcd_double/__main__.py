"""`python -m testbed.rtcd_double`: the double as a process, for the demo or by hand."""

from __future__ import annotations

import argparse
import asyncio
import sys

import uvicorn
import uvloop

from foundation.logs import configure_logs, get_logger
from foundation.shutdown import shutdown_on_signals
from testbed.ports import HOST
from testbed.rtcd_double.control import create_double_app
from testbed.rtcd_double.script import Script, ScriptError, read_script
from testbed.rtcd_double.server import DoubleServer


def main() -> int:
    """Entry point; returns the exit code."""
    arguments = _parser().parse_args()
    configure_logs(level=arguments.log_level)
    try:
        uvloop.run(_serve(arguments, read_script(arguments.set)))
    except (ScriptError, OSError) as error:
        sys.stderr.write(f"rtcd double: failed to start: {error}\n")
        return 2 if isinstance(error, ScriptError) else 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="testbed.rtcd_double", description=__doc__)
    parser.add_argument("--port", type=int, default=8045, help="HTTP and WebSocket")
    parser.add_argument("--media-port", type=int, default=8443, help="UDP; 0: a free one")
    parser.add_argument(
        "--address", default=HOST, help="listens there and announces it; `all`: all of this host"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="how it behaves; the names are those of testbed/rtcd_double/script.py",
    )
    parser.add_argument("--log-level", default="info")
    return parser


async def _serve(arguments: argparse.Namespace, script: Script) -> None:
    everywhere = arguments.address == "all"
    media = DoubleServer(
        script,
        address=None if everywhere else arguments.address,
        udp_port=arguments.media_port,
    )
    await media.start()
    server = uvicorn.Server(
        uvicorn.Config(
            create_double_app(media),
            host="0.0.0.0" if everywhere else arguments.address,  # nosec B104  # only when asked
            port=arguments.port,
            log_config=None,
            access_log=False,
            ws_max_size=1 << 20,
            ws_ping_interval=10.0,
            ws_ping_timeout=20.0,
            timeout_graceful_shutdown=2,
        )
    )
    with shutdown_on_signals() as shutdown:
        serving = asyncio.create_task(server._serve(), name="http")
        get_logger(component="rtcd-double").info(
            "rtcd double: listening on",
            http=f"{arguments.address}:{arguments.port}",
            media=f"{media.udp_port}/udp",
        )
        stopping = asyncio.create_task(shutdown.requested.wait(), name="stop")
        await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        await media.close()
        server.should_exit = True
        await serving


if __name__ == "__main__":
    sys.exit(main())
