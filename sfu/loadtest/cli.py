"""`sfu loadtest`: simulated participants against an SFU that speaks rtcd's protocol; see docs/loadtest.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import string
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from foundation.logs import configure_logs
from sfu.loadtest.plan import LOSS_DIRECTIONS, LoadPlan, PlanError
from sfu.loadtest.presets import PRESETS, apply_preset, find_preset
from sfu.loadtest.run import RunError, RunOptions, run_load
from sfu.loadtest.table import make_table
from sfu.loadtest.transport import local_address_towards

_KEY_VARIABLE: Final = "LOADTEST_AUTH_KEY"
_NUMBER_DIGITS: Final = 6


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0: measured, whatever the result; 1: could not be run; 2: wrong options."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.preset == "list":
        for row in PRESETS.values():
            sys.stdout.write(f"{row.name:20} {row.published}\n")
        return 0
    configure_logs(level="error", json=False)
    try:
        plan, options = _read(given)
    except (PlanError, OSError) as error:
        parser.error(str(error))
    try:
        result = asyncio.run(run_load(plan, options, _say))
    except RunError as error:
        sys.stderr.write(f"sfu loadtest: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("sfu loadtest: interrupted\n")
        return 1
    sys.stdout.write(make_table(result))
    if given.json is not None:
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _read(given: argparse.Namespace) -> tuple[LoadPlan, RunOptions]:
    """Raises PlanError; OSError when there is no way to the SFU."""
    if not given.url.startswith(("http://", "https://")):
        raise PlanError(f"--url {given.url!r}: should be http(s)://host:port")
    plan = LoadPlan(
        url=given.url.rstrip("/"),
        client_id=given.client_id,
        auth_key=given.auth_key or os.environ.get(_KEY_VARIABLE) or secrets.token_urlsafe(32),
        call_prefix=given.call_prefix or f"loadtest{_random_text(8)}",
        session_prefix=_random_text(26 - _NUMBER_DIGITS),
        calls=given.calls,
        users_per_call=given.users_per_call,
        first_user=given.first_user,
        unmuted=given.unmuted,
        screen_sharing=given.screen_sharing,
        join_rate=given.join_rate,
        duration_s=given.duration,
        loss_percent=given.loss,
        loss_direction=given.loss_direction,
        audio_bytes=given.audio_bytes,
        video_bps=round(given.video_kbps * 1000),
        video_packet_bytes=given.video_packet_bytes,
        video_frames_per_s=given.video_frames,
        dc_signaling=given.dc_signaling,
        tcp=given.tcp,
        transport_cc=given.transport_cc,
        delay_every=given.delay_every,
        settle_timeout_s=given.settle_timeout,
        local_address=given.local_address or local_address_towards(given.url),
    )
    preset = None
    if given.preset is not None:
        row = find_preset(given.preset)
        plan, preset = apply_preset(plan, row, scale=given.scale), row.name
    if given.processes < 1:
        raise PlanError(f"--processes {given.processes}: should be at least 1")
    if not 0 <= given.recordings <= plan.calls:
        raise PlanError(f"--recordings {given.recordings}: should be between 0 and {plan.calls}")
    return plan, RunOptions(
        recordings=given.recordings,
        processes=given.processes,
        cpus=read_cpus(given.cpus),
        server_pid=given.server_pid,
        preset=preset,
    )


def read_cpus(text: str) -> tuple[int, ...]:
    """`2,4-6` as (2, 4, 5, 6); empty for none.

    Raises:
        PlanError: not such a list.
    """
    found: list[int] = []
    try:
        for part in filter(None, text.split(",")):
            first, _, last = part.partition("-")
            found += range(int(first), int(last or first) + 1)
    except ValueError:
        raise PlanError(f"--cpus {text!r}: should be core numbers such as 2,4-6") from None
    return tuple(found)


def _random_text(length: int) -> str:
    # No underscore: session ids are a part of track ids, between underscores (rtcd.md trap 19).
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(length))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sfu loadtest", description=__doc__)
    add = parser.add_argument
    add("--url", default="http://127.0.0.1:8045", help="API of the SFU")
    add("--client-id", default="loadtest", help="registered if need be and allowed")
    add("--auth-key", default="", help=f"32 characters or more; better in ${_KEY_VARIABLE}")
    add("--calls", type=int, default=1)
    add("--users-per-call", type=int, default=2)
    add("--unmuted", type=int, default=0, help="per call: its first users send voice")
    add("--screen-sharing", type=int, default=0, help="number of calls with a shared screen")
    add("--join-rate", type=float, default=10.0, help="joins per second")
    add("--duration", type=float, default=30.0, help="seconds measured, after everybody is in")
    add("--loss", type=float, default=0.0, help="per cent of the media packets")
    add(
        "--loss-direction",
        choices=LOSS_DIRECTIONS,
        default="down",
        help="down: SFU to participants",
    )
    add("--recordings", type=int, default=0, help="number of calls really recorded (needs testbed)")
    add(
        "--preset",
        help="a row of the vendor's table, such as 100x8 or 5x200-screen; list shows all",
    )
    add("--scale", type=float, default=1.0, help="of a preset: 0.1 for a tenth of its calls")
    add("--processes", type=int, default=1, help="of the load test")
    add("--cpus", default="", help="cores for them, such as 2,4-6")
    add("--server-pid", type=int, help="whose CPU is measured; found by the port on this host")
    add("--json", type=Path, help="write all figures there")
    add("--audio-bytes", type=int, default=200, help="payload of a voice packet")
    add("--video-kbps", type=float, default=1600.0)
    add("--video-packet-bytes", type=int, default=1200)
    add("--video-frames", type=int, default=20, help="per second")
    add("--dc-signaling", action=argparse.BooleanOptionalAction, default=True)
    add("--transport-cc", action=argparse.BooleanOptionalAction, default=True)
    add("--tcp", action="store_true", help="media over ICE-TCP instead of UDP")
    add("--delay-every", type=int, default=1, help="record the delay of every n-th packet")
    add("--settle-timeout", type=float, default=20.0, help="for all tracks to arrive, seconds")
    add("--first-user", type=int, default=0, help="users below it come from another run")
    add("--call-prefix", default="", help="name of the calls; two runs with one name meet")
    add("--local-address", default="", help="of the participants; the one towards the SFU")
    return parser
