"""Step `docker`: the socket, the engine, its options, its network. Images: `docker_images`."""

from __future__ import annotations

import errno
import grp
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from offloader.doctor.docker_images import look_at_images
from offloader.doctor.finding import Finding, failure, note, ok, skipped, warning
from offloader.doctor.machine import size, user_name
from offloader.doctor.step import Context, Step, aside
from offloader.setting_values import engine_without_tls

_WHAT: Final = "Docker Engine"
_CONNECT_S: Final = 5.0
_LEAST_API: Final = (1, 41)
_SHUTDOWN_S: Final = 330
"""The longest grace of a job (jobs.stop_grace_s, 300 s), and half a minute."""
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


async def look(context: Context) -> Sequence[Finding]:
    """Whether jobs can run in containers here; skipped where they do not."""
    if context.backend != "docker":
        return [skipped("docker_not_used", _WHAT, not_here(context))]
    address = engine_address(context)
    found = list(_address(address, context))
    denied = await aside(lambda: _knock(address, context))
    if denied is not None:
        return [*found, denied]
    from offloader.backends.docker.engine import Engine, EngineError

    engine = Engine(host=address, environ=dict(context.environ))
    try:
        version, info = await engine.call(
            lambda asked: (asked.client.version(), asked.client.info()), timeout_s=10
        )
        found += judge_engine(version, info, context)
        found += await aside(lambda: list(judge_options(info, context, local=_is_local(address))))
        found += await engine.call(lambda asked: list(_network(asked, context)), timeout_s=10)
        found += await look_at_images(engine, info, context)
    except EngineError as error:
        found.append(_unusable(address, str(error)))
    finally:
        engine.close()
    return found


def not_here(context: Context) -> str:
    """Why a step has nothing to look at."""
    if context.worker:
        return f"worker.api_type = {context.backend}"
    hint = "; on hosts of workers: offloader doctor --worker" if context.backend == "celery" else ""
    return f"jobs.api_type = {context.backend}{hint}"


def engine_address(context: Context) -> str:
    """As the backend finds it."""
    host = context.settings.jobs.docker.host or context.environ.get("DOCKER_HOST")
    return host or "unix:///var/run/docker.sock"


def _address(address: str, context: Context) -> Iterator[Finding]:
    if not engine_without_tls(address, context.environ):
        return
    near = urlsplit(address).hostname in _LOOPBACK
    make = note if near else warning
    yield make(
        "docker_plain_tcp",
        "DOCKER_HOST",
        f"{address} without TLS, as jobs.docker.allow_plain_tcp says",
        cause="whoever reaches this port is root on the engine's host",
        fix=(
            "DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH=DIRECTORY, port 2376",
            "or ssh://, or unix://",
        ),
    )


def _knock(address: str, context: Context) -> Finding | None:
    """Why nobody opens; None: somebody does, or the address is of another kind."""
    if not address.startswith("unix:"):
        return None
    path = Path(re.sub("^unix:/*", "/", address))
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_CONNECT_S)
            probe.connect(str(path))
    except OSError as error:
        return _refusal(path, error)
    return None


def _refusal(path: Path, error: OSError) -> Finding:
    user = user_name()
    if error.errno in (errno.EACCES, errno.EPERM):
        group = _group(path)
        return failure(
            "docker_socket_denied",
            _WHAT,
            f"{path}: {user} may not open it",
            cause=f"it is for root and group {group}; who is in that group is root in effect",
            fix=(
                f"sudo usermod -aG {group} {user}",
                "sudo systemctl restart calls-offloader   # groups are read at the start",
                "or an engine of the service's own user: dockerd-rootless-setuptool.sh install",
            ),
        )
    if error.errno == errno.ENOENT:
        return failure(
            "docker_socket_missing",
            _WHAT,
            f"{path}: no such file",
            cause="no engine is installed, it is not started, or it listens elsewhere",
            fix=(
                "sudo apt install docker.io",
                "sudo systemctl start docker",
                "jobs.docker.host = …",
            ),
        )
    return failure(
        "docker_not_running",
        _WHAT,
        f"{path}: {error.strerror or error}",
        cause="nobody listens there: the engine has ended or hangs",
        fix=("sudo systemctl restart docker", "sudo journalctl -u docker -n 50"),
    )


def _group(path: Path) -> str:
    try:
        gid = path.stat().st_gid
    except OSError:
        return "docker"
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _unusable(address: str, text: str) -> Finding:
    return failure(
        "docker_unusable",
        _WHAT,
        f"{address}: {text}",
        cause="it takes connections and does not answer: it hangs"
        if "takes too long" in text
        else "it answers, but not as a Docker Engine does",
        fix=("docker version", "sudo journalctl -u docker -n 50"),
    )


def judge_engine(
    version: Mapping[str, Any], info: Mapping[str, Any], context: Context
) -> Iterator[Finding]:
    """From what the engine tells of itself (`GET /version`, `GET /info`)."""
    api = tuple(int(part) for part in str(version.get("ApiVersion", "0.0")).split("."))
    shown = f"{version.get('Version')}, API {version.get('ApiVersion')}"
    data = {"version": version.get("Version"), "api": version.get("ApiVersion")}
    if api < _LEAST_API:
        yield failure(
            "docker_too_old",
            _WHAT,
            shown,
            cause="API 1.41 is needed, which Docker 20.10 and later have",
            fix=("sudo apt install docker.io, or docker-ce of docker.com",),
            data=data,
        )
    else:
        yield ok("docker_version", _WHAT, shown, data=data)
    docker = context.settings.jobs.docker
    unlimited = [name for name, key in _LIMITS.items() if not info.get(key)]
    wanted = {"memory": docker.memory_bytes, "CPU": docker.cpus, "processes": docker.pids}
    missed = [name for name in unlimited if wanted[name]]
    if missed:
        yield warning(
            "docker_no_limits",
            _WHAT,
            f"no limits of {', '.join(missed)}",
            cause="one job can take all of this host: rootless engines need cgroup v2 with delegation",
            fix=("https://rootlesscontaine.rs/getting-started/common/cgroup2/", "docker info"),
        )


_LIMITS: Final = {"memory": "MemoryLimit", "CPU": "CpuCfsQuota", "processes": "PidsLimit"}


def judge_options(info: Mapping[str, Any], context: Context, *, local: bool) -> Iterator[Finding]:
    """What becomes of running jobs when the engine restarts, and the room that they have."""
    if info.get("LiveRestoreEnabled"):
        yield ok("docker_live_restore", "live-restore", "on: jobs outlive a restart of the engine")
    else:
        grace_s = _shutdown_timeout_s(context.root) if local else None
        if grace_s is not None and grace_s >= _SHUTDOWN_S:
            yield note(
                "docker_shutdown_timeout",
                "live-restore",
                f"off; shutdown-timeout {grace_s} s",
                cause="recordings end when the engine restarts, but can upload",
                fix=('"live-restore": true in /etc/docker/daemon.json',),
            )
        else:
            yield warning(
                "docker_no_live_restore",
                "live-restore",
                "off",
                cause="an upgrade of the engine ends all recordings within 15 s; retries upload them later",
                fix=(
                    '{"live-restore": true, "shutdown-timeout": 330} in /etc/docker/daemon.json',
                    "sudo systemctl reload docker",
                ),
            )
    root_dir = Path(str(info.get("DockerRootDir") or "/none"))
    if local and root_dir.is_dir() and os.access(root_dir, os.R_OK | os.X_OK, effective_ids=True):
        status = os.statvfs(root_dir)
        free_bytes = status.f_bavail * status.f_frsize
        least = context.settings.jobs.min_free_disk_bytes or 0
        data = {"free_bytes": free_bytes, "min_free_disk_bytes": least}
        if free_bytes < least:
            yield failure(
                "docker_disk_low",
                str(root_dir),
                f"{size(free_bytes)} free",
                cause=f"jobs are refused below jobs.min_free_disk ({size(least)})",
                fix=("docker system df", "docker image prune", "a larger disk"),
                data=data,
            )
        else:
            yield ok("docker_disk", str(root_dir), f"{size(free_bytes)} free", data=data)


def _shutdown_timeout_s(root: Path) -> int | None:
    import json

    try:
        text = (root / "etc/docker/daemon.json").read_text(encoding="utf-8")
        value = json.loads(text).get("shutdown-timeout")
    except (OSError, ValueError, AttributeError):
        return None
    return value if isinstance(value, int) else None


def _network(engine: Any, context: Context) -> Iterator[Finding]:
    mode = context.settings.jobs.docker.network
    name = "DOCKER_NETWORK (jobs.docker.network)"
    if mode == "none":
        yield failure(
            "docker_network_none",
            name,
            mode,
            cause="jobs have no network: they reach neither the site nor the SFU",
            fix=('jobs.docker.network = "host"', 'or jobs.docker.network = ""'),
        )
    elif mode in ("", "bridge", "default", "host") or mode.startswith("container:"):
        host = urlsplit(context.site_url).hostname or ""
        if host in _LOOPBACK and mode != "host":
            yield failure(
                "docker_loopback_site",
                name,
                f"{mode or 'bridge'}, and the site is {context.site_url}",
                cause="in a container that address is the container itself: such jobs are refused",
                fix=(
                    "DOCKER_NETWORK=host",
                    f'or jobs.site_url_overrides = {{"{context.site_url}" = "…"}}',
                ),
            )
        else:
            yield ok("docker_network", name, mode or "the engine's bridge")
    elif any(known["Name"] == mode for known in engine.client.networks(names=[mode])):
        yield ok("docker_network", name, mode)
    else:
        yield failure(
            "docker_network_missing",
            name,
            mode,
            cause="the engine has no network of that name: no job can start",
            fix=(f"docker network create {mode}",),
        )


def _is_local(address: str) -> bool:
    return address.startswith("unix:")


DOCKER: Final = Step("docker", "Docker", look, timeout_s=45)
