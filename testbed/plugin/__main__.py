"""`python -m testbed.plugin`: the stand-in as a process."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import sys
from pathlib import Path

import uvicorn
import uvloop

from foundation.logs import configure_logs, get_logger
from foundation.shutdown import shutdown_on_signals
from testbed.plugin.app import DEFAULT_MAX_FILE_SIZE_BYTES, create_app
from testbed.plugin.job_service import QUALITIES, PluginSettings, passed_through
from testbed.plugin.resolution import HostsFile, resolve_ipv4
from testbed.plugin.rtcd import Credentials, RtcdError, RtcdUrl
from testbed.plugin.rtcd_hosts import RESOLVE_INTERVAL_S


def main() -> int:
    """Entry point; returns the exit code."""
    arguments = _parser().parse_args()
    configure_logs()
    try:
        uvloop.run(_serve(arguments))
    except (OSError, StartError, RtcdError) as error:
        sys.stderr.write(f"stand-in: failed to start: {error}\n")
        return 1
    return 0


class StartError(Exception):
    """The stand-in cannot start; its log says why."""


class _Server(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit as error:  # uvicorn's way to tell that the lifespan failed
            self.should_exit = True
            raise StartError from error
        finally:
            self.listening.set()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="testbed.plugin", description=__doc__)
    parser.add_argument("--listen", default="127.0.0.1:8065", help="host:port")
    parser.add_argument(
        "--rtcd-url",
        default=os.environ.get("MM_CALLS_RTCD_SERVICE_URL") or "http://127.0.0.1:8045",
        help="http(s)://[client id:auth key@]host:port; each IPv4 address of the host is an SFU",
    )
    parser.add_argument(
        "--rtcd-hosts", type=Path, help="a file as hosts(5) that is asked instead of DNS"
    )
    parser.add_argument("--rtcd-resolve-interval-s", type=float, default=RESOLVE_INTERVAL_S)
    parser.add_argument(
        "--allow-cors-from",
        default="",
        help="origins of pages that may connect, or *; as Mattermost's AllowCorsFrom",
    )
    parser.add_argument("--job-service-url", default="http://127.0.0.1:4545")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--tls-cert", type=Path, help="PEM file: serve https and wss")
    parser.add_argument("--tls-key", type=Path, help="PEM file with its private key")
    parser.add_argument("--quality", choices=sorted(QUALITIES), default="medium")
    parser.add_argument("--max-recording-minutes", type=int, default=60)
    parser.add_argument("--start-timeout-s", type=float, default=60.0)
    parser.add_argument(
        "--no-transcriptions", action="store_true", help="recordings alone start no transcription"
    )
    parser.add_argument("--image-registry", default="mattermost", help="of the runners' names")
    parser.add_argument("--max-file-size-bytes", type=int, default=DEFAULT_MAX_FILE_SIZE_BYTES)
    parser.add_argument(
        "--real-models", action="store_true", help="the page does not speak of the bundled model"
    )
    for job in ("recorder", "transcriber"):
        parser.add_argument(
            f"--{job}-env",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help=f"as MM_CALLS_{job.upper()}_NAME=VALUE in the plugin's environment",
        )
    return parser


async def _serve(arguments: argparse.Namespace) -> None:
    host, _, port = arguments.listen.rpartition(":")
    listener = _listen(host, int(port))
    url = f"{'https' if arguments.tls_cert else 'http'}://{host}:{port}"
    settings = PluginSettings(
        site_url=url,
        quality=arguments.quality,
        max_recording_minutes=arguments.max_recording_minutes,
        start_timeout_s=arguments.start_timeout_s,
        transcriptions=not arguments.no_transcriptions,
        image_registry=arguments.image_registry,
        recorder_env=passed_through("RECORDER", os.environ) | _pairs(arguments.recorder_env),
        transcriber_env=passed_through("TRANSCRIBER", os.environ)
        | _pairs(arguments.transcriber_env),
    )
    initialized = asyncio.Event()
    app = create_app(
        rtcd_url=arguments.rtcd_url,
        rtcd_credentials=Credentials.of_url(arguments.rtcd_url),
        job_service_url=arguments.job_service_url,
        data_dir=arguments.data_dir,
        settings=settings,
        max_file_size_bytes=arguments.max_file_size_bytes,
        allow_cors_from=arguments.allow_cors_from,
        resolve=HostsFile(arguments.rtcd_hosts) if arguments.rtcd_hosts else resolve_ipv4,
        resolve_interval_s=arguments.rtcd_resolve_interval_s,
        initialized=initialized,
        real_models=arguments.real_models,
    )
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            ws_max_size=1 << 20,
            ws_ping_interval=60.0,
            ws_ping_timeout=100.0,
            timeout_graceful_shutdown=2,
            ssl_certfile=arguments.tls_cert,
            ssl_keyfile=arguments.tls_key,
        )
    )
    with shutdown_on_signals() as shutdown:
        serving = asyncio.create_task(server._serve([listener]), name="http")
        telling: asyncio.Task[None] | None = None
        try:
            await server.listening.wait()
            if server.should_exit:
                raise StartError(f"the SFU {RtcdUrl.parse(arguments.rtcd_url)} cannot be used")
            get_logger(component="stand-in").info("stand-in: listening on", url=url)
            print(json.dumps({"event": "ready", "url": url}), flush=True)
            telling = asyncio.create_task(_tell_jobs_ready(initialized), name="jobs-ready")
            await shutdown.requested.wait()
        finally:
            if telling is not None:
                telling.cancel()
                await asyncio.wait([telling])
            server.should_exit = True
            with contextlib.suppress(StartError):
                await serving


async def _tell_jobs_ready(initialized: asyncio.Event) -> None:
    await initialized.wait()
    print(json.dumps({"event": "jobs_ready"}), flush=True)


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(
            f"port {port} for the stand-in of Mattermost cannot be used: {error.strerror}; "
            "change --listen"
        ) from error
    listener.listen(128)
    return listener


def _pairs(entries: list[str]) -> dict[str, str]:
    """`NAME=VALUE` to the lower-case key of `input_data` (section 6.5)."""
    pairs = (entry.partition("=") for entry in entries)
    return {name.lower(): value for name, _, value in pairs}


if __name__ == "__main__":
    sys.exit(main())
