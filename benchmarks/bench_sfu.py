"""What the SFU costs and what it can bear, one JSON line per case, measured with `sfu loadtest`.

`cost`: CPU per forwarded voice packet at 1, 7, 20, 50 and 200 receivers, the same packets per second in each.
`join`: joins at 50 a second, and memory per idle participant. `hostile`: a small call while somebody
misbehaves: a client that is stopped, one behind 30 % loss, 1000 half-open TCP connections to the media port,
10,000 bogus STUN requests a second; the others' loss, and the ratio of their delay to that of the undisturbed
call.

The SFU is a process of its own for each group, on the cores of `--sfu-cpus`; settings of its own come from
the environment (RTCD_…). `--url` measures another server instead, which must run on this host for CPU
figures. On shared or few cores only the ratios within a run mean anything.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import http.client
import json
import os
import platform
import resource
import secrets
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from sfu.loadtest.cli import read_cpus
from sfu.loadtest.plan import LoadPlan
from sfu.loadtest.run import RunOptions, run_load

HOST: Final = "127.0.0.1"
CLIENT_ID: Final = "bench"
KEY: Final = "k" * 32
RECEIVERS: Final = (7, 1, 20, 50, 200)
"""The first one is what the others are compared with."""
GROUPS: Final = ("cost", "join", "hostile")
HALF_OPEN: Final = 1000
BOGUS_PER_S: Final = 10_000
GUEST: Final = 4
"""The misbehaving client is this user; the four before it are measured."""
Result = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """The server under test."""

    url: str
    media_port: int


@dataclass(frozen=True)
class Bench:
    """The options."""

    rate: float
    unmuted: int
    transport_cc: bool
    duration_s: float
    joins: int
    run: RunOptions
    sfu_cpus: tuple[int, ...]
    url: str
    media_port: int


def main() -> None:
    bench, groups = read_options()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    parts = {"cost": measure_cost, "join": measure_joins, "hostile": measure_hostile}
    for group in groups:
        with server(bench) as target:
            # Warm, in every process of the SFU.
            load(bench, target, calls=4 * (os.cpu_count() or 1), unmuted=1, duration_s=0.5)
            parts[group](bench, target)


def read_options() -> tuple[Bench, list[str]]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=" or ".join(GROUPS))
    parser.add_argument("--rate", type=float, default=5000, help="packets out per second for cost")
    parser.add_argument("--unmuted", type=int, default=1, help="in each call of cost")
    parser.add_argument(
        "--transport-cc",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="do receivers report arrivals ten times a second, as browsers do?",
    )
    parser.add_argument("--duration", type=float, default=5, help="seconds measured per case")
    parser.add_argument("--joins", type=int, default=100, help="participants who join for join")
    parser.add_argument("--processes", type=int, default=1, help="of the load test")
    parser.add_argument(
        "--cpus", default="", help="cores of the load test; default: all but core 0"
    )
    parser.add_argument("--sfu-cpus", default="", help="cores of the SFU; default: core 0")
    parser.add_argument("--url", default="", help="a server that runs already, with our key")
    parser.add_argument("--media-port", type=int, default=8443, help="of that server")
    given = parser.parse_args()
    for group in given.groups:
        if group not in GROUPS:
            parser.error(f"{group!r} should be one of {', '.join(GROUPS)}")
    cores = sorted(os.sched_getaffinity(0))
    bench = Bench(
        rate=given.rate,
        unmuted=given.unmuted,
        transport_cc=given.transport_cc,
        duration_s=given.duration,
        joins=given.joins,
        run=RunOptions(
            processes=given.processes, cpus=read_cpus(given.cpus) or tuple(cores[1:] or cores)
        ),
        sfu_cpus=read_cpus(given.sfu_cpus) or (cores[0],),
        url=given.url,
        media_port=given.media_port,
    )
    return bench, given.groups or list(GROUPS)


# the groups


def measure_cost(bench: Bench, target: Target) -> None:
    base = None
    for receivers in RECEIVERS:
        unmuted = min(bench.unmuted, receivers + 1)
        calls = max(1, round(bench.rate / 50 / receivers / unmuted))
        result = load(
            bench,
            target,
            calls=calls,
            users_per_call=receivers + 1,
            unmuted=unmuted,
            join_rate=50.0,
        )
        cost = result["server"].get("cpu_s_per_million_packets")
        base = base or cost
        report(
            "cost",
            f"{receivers} {'receiver' if receivers == 1 else 'receivers'}",
            result,
            calls=calls,
            unmuted=unmuted,
            packets_out_per_s=result["media"]["packets_out_per_s"],
            cpu_us_per_packet=cost,
            packets_per_cpu_s=result["server"].get("packets_per_cpu_s"),
            against_7_receivers=round(cost / base, 2) if cost and base else None,
        )


def measure_joins(bench: Bench, target: Target) -> None:
    result = load(bench, target, calls=max(1, bench.joins // 10), users_per_call=10, join_rate=50.0)
    timings = result["timings_ms"]["join"]
    report(
        "join",
        "50 joins a second, idle",
        result,
        joined=result["participants"]["joined"],
        failures=result["participants"]["failures"],
        join_ms={key: timings[key] for key in ("p50", "p95", "max")},
        join_cpu_ms=result["server"].get("join_cpu_ms"),
        rss_per_participant_kb=round(result["server"].get("rss_per_participant_bytes", 0) / 1000),
        idle_cores=result["server"].get("cores"),
    )


def measure_hostile(bench: Bench, target: Target) -> None:
    undisturbed = None
    cases: list[tuple[str, Callable[[Bench, Target, str], AbstractContextManager[Trouble]]]] = [
        ("nobody", no_trouble),
        ("one client stopped", stopped_client),
        ("30 % loss towards one client", lossy_client),
        (f"{HALF_OPEN} half-open TCP connections", half_open_connections),
        (f"{BOGUS_PER_S} bogus STUN requests a second", bogus_stun),
    ]
    for name, trouble in cases:
        call = f"bench{secrets.token_hex(4)}"
        with trouble(bench, target, call) as made:
            if made.missing:
                print(json.dumps({"bench": "sfu", "group": "hostile", "skipped": made.missing}))
                continue
            result = load(
                bench,
                target,
                say=made.begin,
                call_prefix=call,
                users_per_call=GUEST,
                unmuted=2,
                screen_sharing=1,
            )
            extra = made.tell()
        p99_ms = result["delay_ms"]["p99"]
        undisturbed = undisturbed or p99_ms
        report(
            "hostile",
            name,
            result,
            expected=result["media"]["expected"],
            lost=result["media"]["lost"],
            delay_ms={key: result["delay_ms"][key] for key in ("p50", "p99", "max")},
            delay_p99_against_undisturbed=round(p99_ms / undisturbed, 2) if undisturbed else None,
            server_cores=result["server"].get("cores"),
            **extra,
        )


# troubles


class Trouble:
    """`begin` is told how the run goes on: what must not disturb the joining begins with the measuring."""

    missing = ""
    """Why there is nothing to be tried."""

    def begin(self, text: str) -> None:
        """One line of the run's progress."""

    def tell(self) -> Result:
        """What it really did."""
        return {}


@contextmanager
def no_trouble(bench: Bench, target: Target, call: str) -> Iterator[Trouble]:
    yield Trouble()


@contextmanager
def stopped_client(bench: Bench, target: Target, call: str) -> Iterator[Trouble]:
    with guest(bench, target, call) as process:

        class Stop(Trouble):
            def begin(self, text: str) -> None:
                if text.startswith("measuring"):
                    os.killpg(process.pid, signal.SIGSTOP)

        yield Stop()


@contextmanager
def lossy_client(bench: Bench, target: Target, call: str) -> Iterator[Trouble]:
    with guest(bench, target, call, "--loss", "30"):
        yield Trouble()


@contextmanager
def half_open_connections(bench: Bench, target: Target, call: str) -> Iterator[Trouble]:
    with ExitStack() as stack:
        sockets: list[socket.socket] = []

        class Connect(Trouble):
            def begin(self, text: str) -> None:
                if text.startswith("measuring"):
                    for _ in range(HALF_OPEN):
                        sock = stack.enter_context(socket.socket())
                        sock.setblocking(False)
                        sock.connect_ex((HOST, target.media_port))
                        sockets.append(sock)

            def tell(self) -> Result:
                established = 0
                for sock in sockets:
                    state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
                    established += state == 1
                return {"still_established": established}

        connect = Connect()
        with socket.socket() as probe:
            if probe.connect_ex((HOST, target.media_port)):
                connect.missing = "the media port takes no TCP connections"
        yield connect


@contextmanager
def bogus_stun(bench: Bench, target: Target, call: str) -> Iterator[Trouble]:
    code = f"import benchmarks.bench_sfu as b; b.send_bogus_stun({target.media_port})"
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    process = start(
        [sys.executable, "-c", code],
        cpus=bench.run.cpus,
        env=environment,
        stdout=subprocess.PIPE,
    )

    class Flood(Trouble):
        def tell(self) -> Result:
            process.send_signal(signal.SIGINT)
            sent_per_s, _ = process.communicate(timeout=10)
            return {"bogus_per_s": float(sent_per_s or 0)}

    try:
        yield Flood()
    finally:
        process.kill()
        process.wait()


def send_bogus_stun(port: int) -> None:
    """Binding requests for nobody, with a MESSAGE-INTEGRITY that nobody has made; until SIGINT."""
    username = b"nobodyknowsthis0:me".ljust(20, b"x")
    attributes = struct.pack("!HH", 0x0006, len(username)) + username
    attributes += struct.pack("!HH", 0x0008, 20) + bytes(20)
    head = struct.pack("!HHI", 0x0001, len(attributes), 0x2112A442)
    sent, began_s = 0, time.monotonic()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        contextlib.suppress(KeyboardInterrupt),
    ):
        while True:
            due = int((time.monotonic() - began_s) * BOGUS_PER_S)
            for _ in range(min(due - sent, BOGUS_PER_S // 10)):
                sock.sendto(head + secrets.token_bytes(12) + attributes, (HOST, port))
                sent += 1
            time.sleep(0.005)
    print(round(sent / (time.monotonic() - began_s)))


@contextmanager
def guest(bench: Bench, target: Target, call: str, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """One more participant, silent, in a process group of its own; it is in the call when this begins."""
    command = [sys.executable, "-m", "sfu", "loadtest", "--url", target.url]
    command += ["--client-id", CLIENT_ID, "--auth-key", KEY, "--call-prefix", call]
    command += ["--users-per-call", str(GUEST + 1), "--first-user", str(GUEST)]
    command += ["--unmuted", "2", "--screen-sharing", "1"]
    command += ["--settle-timeout", "60", "--duration", "120", *more]
    process = start(
        command,
        cpus=bench.run.cpus,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_session(target, f"{call}0")
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for_session(target: Target, call: str) -> None:
    authorization = "Basic " + base64.b64encode(f"{CLIENT_ID}:{KEY}".encode()).decode()
    for _ in range(150):
        connection = http.client.HTTPConnection(urlsplit(target.url).netloc, timeout=5)
        connection.request(
            "GET", f"/calls/{call}/sessions", headers={"Authorization": authorization}
        )
        status = connection.getresponse().status
        connection.close()
        if status == 200:
            time.sleep(1)  # ICE and DTLS
            return
        time.sleep(0.1)
    raise SystemExit("the guest did not come into the call")


# running


def load(
    bench: Bench, target: Target, *, say: Callable[[str], None] = lambda text: None, **plan: Any
) -> Result:
    defaults: Result = {
        "url": target.url,
        "client_id": CLIENT_ID,
        "auth_key": KEY,
        "call_prefix": f"bench{secrets.token_hex(4)}",
        "session_prefix": secrets.token_hex(10),
        "join_rate": 20.0,
        "duration_s": bench.duration_s,
        "transport_cc": bench.transport_cc,
    }
    wanted = LoadPlan(**(defaults | plan))
    # One process for each hundred is enough; more only cost their start.
    processes = min(bench.run.processes, -(-wanted.participants // 2))
    return asyncio.run(run_load(wanted, replace(bench.run, processes=processes), say))


def report(group: str, case: str, result: Result, **figures: Any) -> None:
    line = {"bench": "sfu", "group": group, "case": case, **figures}
    line |= {
        "loss_percent": result["media"]["loss_percent"],
        "delay_p99_ms": result["delay_ms"]["p99"],
        "load_tool_was_the_bottleneck": result["tool"]["bottleneck"],
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
    }
    print(json.dumps(line, ensure_ascii=False), flush=True)


@contextmanager
def server(bench: Bench) -> Iterator[Target]:
    if bench.url:
        yield Target(bench.url, bench.media_port)
        return
    api_port, media_port = free_port(), free_port()
    with tempfile.TemporaryDirectory() as directory:
        process = start(
            [sys.executable, "-m", "sfu"],
            cpus=bench.sfu_cpus,
            env={
                "RTCD_RTC_ICEADDRESSUDP": HOST,
                "RTCD_RTC_ICEADDRESSTCP": HOST,
                "RTCD_LOGGER_CONSOLELEVEL": "ERROR",
                **os.environ,
                "RTCD_API_HTTP_LISTENADDRESS": f"{HOST}:{api_port}",
                "RTCD_API_SECURITY_ALLOWSELFREGISTRATION": "true",
                "RTCD_RTC_ICEPORTUDP": str(media_port),
                "RTCD_RTC_ICEPORTTCP": str(media_port),
                "RTCD_STORE_DATASOURCE": directory,
                "RTCD_LOGGER_ENABLEFILE": "false",
            },
        )
        try:
            wait_for_port(process, api_port)
            yield Target(f"http://{HOST}:{api_port}", media_port)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def start(command: list[str], *, cpus: tuple[int, ...], **options: Any) -> subprocess.Popen[bytes]:
    """Start on some cores; what it starts itself stays there too."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        return subprocess.Popen(command, **options)
    finally:
        os.sched_setaffinity(0, own)


def free_port() -> int:
    """Within what an SFU accepts for media (rtcd.md 1.3)."""
    while True:
        port = 20_000 + secrets.randbelow(12_000)
        with (
            socket.socket() as tcp,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            contextlib.suppress(OSError),
        ):
            tcp.bind((HOST, port))
            udp.bind((HOST, port))
            return port


def wait_for_port(process: subprocess.Popen[bytes], port: int) -> None:
    for _ in range(300):
        if process.poll() is not None:
            raise SystemExit(f"the SFU ended with exit code {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
            return
        time.sleep(0.1)
    raise SystemExit("the SFU does not listen")


if __name__ == "__main__":
    main()
