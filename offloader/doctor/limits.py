"""Step `limits`: what kernel, control group and systemd leave the service and its jobs; whose the port is."""

from __future__ import annotations

import http.client
import json
import re
import resource
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from offloader.doctor.finding import Finding, failure, note, ok, warning
from offloader.doctor.machine import output_of
from offloader.doctor.step import Context, Step, aside
from offloader.setting_values import split_address

UNIT: Final = "calls-offloader.service"
WORKER_UNIT: Final = "calls-offloader-worker.service"
_FILES: Final = 65_536
_FEW_FILES: Final = 4_096
"""A thousand streams of events, 1,500 logs, and what else there is."""
_BUFFER_BYTES: Final = 2 << 20
"""A second of a 1080p screen at 15 Mbit/s; hosts of the SFU want 16 MiB (docs/sfu.md, kernel)."""
_SFU_BUFFER_BYTES: Final = 16 << 20
_CONNECT_S: Final = 2.0
_STOP_S: Final = 30


async def look(context: Context) -> Sequence[Finding]:
    """Reads /proc and asks systemd; opens one connection to the service's own port."""
    return await aside(lambda: list(_look(context)))


def _look(context: Context) -> Iterator[Finding]:
    unit = read_unit(_unit_name(context))
    yield from judge_files(_open_files(context, unit))
    yield from judge_buffers(context.root / "proc/sys/net/core")
    yield from judge_unit(unit, context)
    yield from _port(context)


def _open_files(context: Context, unit: Mapping[str, str]) -> tuple[int, str]:
    """The limit, and whose it is: the running service's, the unit's, else this shell's."""
    pid = unit.get("MainPID", "0")
    if pid != "0":
        try:
            text = (context.root / "proc" / pid / "limits").read_text(encoding="ascii")
        except OSError:
            text = ""
        if found := re.search(r"^Max open files\s+(\d+)\s+(\d+)", text, re.MULTILINE):
            return int(found[1]), "the running service"
    told = unit.get("LimitNOFILE", "")
    if told.isdigit() or told == "infinity":
        return (1 << 30 if told == "infinity" else int(told)), _unit_name(context)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (1 << 30 if soft == resource.RLIM_INFINITY else soft), "this shell"


def judge_files(found: tuple[int, str]) -> Iterator[Finding]:
    """By number and owner."""
    limit, whose = found
    what = f"open files (LimitNOFILE) of {whose}"
    data = {"limit": limit, "of": whose}
    if limit >= _FILES or (whose == "this shell" and limit >= _FEW_FILES):
        yield ok("limits_files", what, str(limit), data=data)
        return
    if whose == "this shell":
        yield note(
            "limits_files_shell",
            what,
            str(limit),
            cause="a service that is started from here has no more; its unit sets its own limit",
            fix=(f"ulimit -n {_FILES}",),
            data=data,
        )
        return
    yield warning(
        "limits_files_low",
        what,
        str(limit),
        cause="each stream of events, each log and each connection is one: under load requests fail",
        fix=(
            "sudo systemctl edit calls-offloader   # [Service] LimitNOFILE=65536",
            "sudo systemctl restart calls-offloader",
        ),
        data=data,
    )


def judge_buffers(net: Path) -> Iterator[Finding]:
    """`net`: /proc/sys/net/core, which containers often have not."""
    try:
        size_bytes = int((net / "rmem_max").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return
    data = {"rmem_max": size_bytes}
    what = "net.core.rmem_max"
    if size_bytes < _BUFFER_BYTES:
        yield note(
            "limits_buffers_small",
            what,
            str(size_bytes),
            cause="a busy host loses packets of voices and screens; an SFU on this host wants 16 MiB",
            fix=(
                f"echo 'net.core.rmem_max={_SFU_BUFFER_BYTES}' | sudo tee /etc/sysctl.d/60-calls.conf",
                "sudo sysctl --system",
            ),
            data=data,
        )
    else:
        yield ok("limits_buffers", what, str(size_bytes), data=data)


_UNIT_PROPERTIES: Final = (
    *("LoadState", "ActiveState", "MainPID", "LimitNOFILE", "KillMode", "OOMPolicy", "Delegate"),
    *("PrivateTmp", "TimeoutStopUSec"),
)


def _unit_name(context: Context) -> str:
    return WORKER_UNIT if context.worker else UNIT


def read_unit(name: str) -> dict[str, str]:
    """Properties of a unit; empty: no systemd, or no such unit. Blocks."""
    asked = ",".join(_UNIT_PROPERTIES)
    text = output_of(("systemctl", "show", name, f"--property={asked}")) or ""
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return found if found.get("LoadState") == "loaded" else {}


def judge_unit(unit: Mapping[str, str], context: Context) -> Iterator[Finding]:
    """The lines that keep recordings alive (docs/operations.md, the unit)."""
    if not unit:
        return
    grace_s = context.settings.jobs.stop_grace_s
    processes = context.backend == "process"
    name = _unit_name(context)
    wrong: list[tuple[str, str]] = []
    if processes and unit.get("KillMode") != "process":
        wrong.append(("KillMode=process", "a stop kills every job together with the service"))
    if processes and unit.get("OOMPolicy") != "continue":
        wrong.append(("OOMPolicy=continue", "one job without memory ends the service"))
    if processes and unit.get("PrivateTmp") == "yes":
        wrong.append(("PrivateTmp=no", "a restart takes /tmp from jobs that run on"))
    if processes and unit.get("Delegate") == "no":
        wrong.append(("Delegate=yes", "jobs have no control groups: no limits of CPU"))
    stop_s = seconds(unit.get("TimeoutStopUSec", ""))
    if processes and stop_s is not None and stop_s < grace_s + _STOP_S:
        line = f"TimeoutStopSec={grace_s + 60:.0f}"
        wrong.append((line, f"a stop is cut off after {stop_s:.0f} s, before jobs have uploaded"))
    for line, effect in wrong:
        yield warning(
            "limits_unit",
            name,
            f"without {line}",
            cause=effect,
            fix=(f"sudo systemctl edit {name}   # [Service] {line}",),
        )
    if not wrong:
        yield ok("limits_unit_good", name, unit.get("ActiveState", ""))


def seconds(text: str) -> float | None:
    """`6min`, `1min 30s`, `500ms` as systemd writes them; None: no limit, or not understood."""
    units = {"h": 3600.0, "min": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6}
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|min|ms|us|s)\b", text)
    return sum(float(number) * units[unit] for number, unit in parts) if parts else None


def _port(context: Context) -> Iterator[Finding]:
    """The service answers `GET /version` (job-service.md 1), a worker `GET /healthz`."""
    api, worker = context.settings.api, context.settings.worker
    host, port = split_address(worker.listen_address if context.worker else api.listen_address)
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # nosec B104  # compared, not bound
    what = f"port {port}"
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_S):
            pass
    except OSError:
        yield note(
            "limits_port_free",
            what,
            "nobody listens",
            cause="the service does not run here, or with another configuration",
            fix=(f"sudo systemctl start {_unit_name(context)}",),
        )
        return
    told = _asked(host, port, context)
    if told is None:
        yield failure(
            "limits_port_taken",
            what,
            "another program listens there",
            cause="the service cannot start: often it is the vendor's",
            fix=(f"sudo ss -ltnp 'sport = :{port}'", "api.http.listen_address = another port"),
        )
    else:
        yield ok("limits_port", what, told)


def _asked(host: str, port: int, context: Context) -> str | None:
    """Who answers there; None: neither service nor worker."""
    tls = context.settings.worker.tls if context.worker else context.settings.api.tls.enable
    connection: http.client.HTTPConnection
    if tls:
        # Who it is, not whether it is trusted: step `certificate` looks at that.
        unchecked = ssl.create_default_context()
        unchecked.check_hostname = False
        unchecked.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=_CONNECT_S, context=unchecked)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=_CONNECT_S)
    try:
        connection.request("GET", "/healthz" if context.worker else "/version")
        answer = connection.getresponse()
        document = json.loads(answer.read(4096))
        if context.worker:
            return f"a worker answers: {document['status']}" if answer.status == 200 else None
        return f"a job service answers, {document['buildVersion']}"
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None
    finally:
        connection.close()


LIMITS: Final = Step("limits", "Limits and ports", look)
