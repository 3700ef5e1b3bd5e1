"""Message brokers of one's own: a real Redis or RabbitMQ on free ports of the loopback interface.

Never the system's: files (in one directory), ports, names and Erlang's name server, epmd, are its own and
end with it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from testbed.certificates import Certificates
from testbed.ports import HOST
from testbed.processes import StartFailed

PASSWORD: Final = "broker-password-3b9f"
"""Of a Redis with TLS."""
_POLL_S: Final = 0.05
_REDIS_READY_S: Final = 20.0
_RABBITMQ_READY_S: Final = 90.0
"""The Erlang machine and thirty applications: 4 s on an idle machine."""
_CONTROL_LIMIT_S: Final = 120.0
_END_S: Final = 10.0
_RABBITMQ_PROGRAMS: Final = Path("/usr/lib/rabbitmq/bin")
"""Debian's wrapper on PATH would run the system's own node."""
_GONE: Final = (
    "rabbit_maintenance:suspend_all_client_listeners(), "
    'rabbit_networking:close_all_connections("stopped").'
)


class BrokerMissing(StartFailed):
    """Its program is not on this machine; the message says what to install."""


class Broker(Protocol):
    """One server, which can be taken away and come back with what it had."""

    name: str
    url: str
    """For `jobs.celery.broker_url`."""

    def start(self) -> None:
        """Start, or start again; return when it answers.

        Raises:
            StartFailed: it does not.
        """

    def stop(self) -> None:
        """End it politely. Idempotent."""

    def freeze(self) -> None:
        """It answers nobody any more, and no connection ends."""

    def thaw(self) -> None:
        """It goes on where it was."""


def free_port() -> int:
    """One that nobody uses just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def redis_command(*, port: int, directory: Path) -> list[str]:
    """A Redis that writes down what it is told, so that a restart loses no launch.

    Raises:
        BrokerMissing: no redis-server on PATH.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise BrokerMissing("redis-server is not on PATH: apt-get install redis-server")
    return [
        *(program, "--bind", HOST, "--port", str(port), "--dir", str(directory)),
        *("--save", "", "--appendonly", "yes"),
    ]


class RedisServer:
    """See `Broker`."""

    name = "redis"

    def __init__(self, directory: Path, *, tls: Certificates | None = None) -> None:
        """With `tls` it speaks nothing else, and wants a password. Raises BrokerMissing."""
        self.port = free_port()
        self._directory = directory
        self._command = redis_command(port=self.port, directory=directory)
        self.url = f"redis://{HOST}:{self.port}/0"
        if tls is not None:
            self._command += [
                "--port",
                "0",
                "--tls-port",
                str(self.port),
                "--requirepass",
                PASSWORD,
            ]
            self._command += ["--tls-cert-file", str(tls.certificate), "--tls-key-file"]
            self._command += [str(tls.key), "--tls-ca-cert-file", str(tls.ca)]
            self._command += ["--tls-auth-clients", "no"]
            self.url = f"rediss://:{PASSWORD}@{HOST}:{self.port}/0"
        self._tls = tls
        self._process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        self._process = _spawn(self._command, log=self._directory / "log")
        _await_answer(self.name, self._process, self._answers, _REDIS_READY_S, self._directory)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            _end(process)

    def freeze(self) -> None:
        _signal(self._process, signal.SIGSTOP)

    def thaw(self) -> None:
        _signal(self._process, signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as client:
                if self._tls is not None:
                    return True
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False


class RabbitServer:
    """A node of its own name, with an epmd of its own, that has a `Broker` for each who wants one."""

    def __init__(self, directory: Path, *, tls: Certificates | None = None) -> None:
        """With `tls` it speaks nothing else. Raises BrokerMissing."""
        self._tls = tls
        self._program = _RABBITMQ_PROGRAMS / "rabbitmq-server"
        epmd = shutil.which("epmd")
        if not self._program.exists() or epmd is None:
            raise BrokerMissing(
                f"no {self._program}, or no epmd on PATH: apt-get install rabbitmq-server"
            )
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._epmd_program = epmd
        self._epmd_port = free_port()
        self._port = free_port()
        self._environment = self._make_environment()
        self._epmd: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def url_of(self, host: str) -> str:
        """That of one of its virtual hosts."""
        scheme = "amqp" if self._tls is None else "amqps"
        return f"{scheme}://guest:guest@{HOST}:{self._port}/{host}"

    def new_host(self) -> RabbitHost:
        """A virtual host in which nothing of anybody else is."""
        name = f"test-{secrets.token_hex(4)}"
        self.control("add_vhost", name)
        self.control("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
        return RabbitHost(self, name)

    def start(self) -> None:
        """Start it, once; return when it answers.

        Raises:
            StartFailed: it does not.
        """
        command = [self._epmd_program, "-port", str(self._epmd_port), "-address", HOST]
        self._epmd = _spawn(command, log=self._directory / "epmd.log")
        # So its script becomes the node, instead of waiting for one.
        environment = {**self._environment, "RUNNING_UNDER_SYSTEMD": "true"}
        self._process = _spawn(
            [str(self._program)], log=self._directory / "console.log", environment=environment
        )
        _await_answer("rabbitmq", self._process, self._answers, _RABBITMQ_READY_S, self._directory)

    def end(self) -> None:
        """Node and epmd. Idempotent."""
        for process in (self._process, self._epmd):
            if process is not None:
                _end(process)
        self._process = self._epmd = None

    def freeze(self) -> None:
        """See `Broker`."""
        _signal(self._process, signal.SIGSTOP)

    def thaw(self) -> None:
        """See `Broker`."""
        _signal(self._process, signal.SIGCONT)

    def control(self, *arguments: str) -> str:
        """What `rabbitmqctl` says.

        Raises:
            StartFailed: it failed.
        """
        done = subprocess.run(
            [str(_RABBITMQ_PROGRAMS / "rabbitmqctl"), "--quiet", *arguments],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_CONTROL_LIMIT_S,
            check=False,
        )
        if done.returncode != 0:
            raise StartFailed(f"rabbitmqctl {arguments[0]}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode(errors="replace")

    def _make_environment(self) -> dict[str, str]:
        config = self._directory / "rabbitmq.conf"
        lines = [f"listeners.tcp.local = {HOST}:{self._port}"]
        if self._tls is not None:
            lines = ["listeners.tcp = none", f"listeners.ssl.local = {HOST}:{self._port}"]
            lines += [f"ssl_options.cacertfile = {self._tls.ca}"]
            lines += [f"ssl_options.certfile = {self._tls.certificate}"]
            lines += [f"ssl_options.keyfile = {self._tls.key}"]
        config.write_text("\n".join(lines) + "\n")
        (self._directory / "plugins").write_text("[].\n")
        there = str(self._directory)
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": there,  # of Erlang's cookie
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{there}/plugins",
            "RABBITMQ_NODENAME": f"test-{self._port}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": f"{there}/data",
            "RABBITMQ_LOG_BASE": f"{there}/logs",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none"
            ),
        }

    def _answers(self) -> bool:
        """It listens last of all, and greets whoever speaks AMQP."""
        try:
            with socket.create_connection((HOST, self._port), timeout=2) as client:
                if self._tls is not None:
                    return True
                client.sendall(b"AMQP\0\0\x09\x01")
                return client.recv(1) == b"\x01"
        except OSError:
            return False


class RabbitHost:
    """See `Broker`: a virtual host. Whoever stops or freezes it does so to all of its node."""

    name = "rabbitmq"

    def __init__(self, server: RabbitServer, host: str) -> None:
        self._server = server
        self.host = host
        self.url = server.url_of(host)
        self.freeze, self.thaw = server.freeze, server.thaw

    def start(self) -> None:
        """It listens again."""
        self._server.control("eval", "rabbit_maintenance:resume_all_client_listeners().")

    def stop(self) -> None:
        """Nobody listens and every connection is closed by force; its node goes on.

        Not `stop_app`, which has been seen never to end: in two minutes.
        """
        self._server.control("eval", _GONE)

    def control(self, command: str, *arguments: str) -> str:
        """What `rabbitmqctl` says of this host; see `RabbitServer.control`."""
        return self._server.control(command, "-p", self.host, *arguments)

    def remove(self) -> None:
        """With all that is in it."""
        self._server.control("delete_vhost", self.host)


def _spawn(
    command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """In a session of its own, so that it can be ended with all that it starts."""
    with log.open("ab") as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=None if environment is None else dict(environment),
            start_new_session=True,
        )


def _signal(process: subprocess.Popen[bytes] | None, number: signal.Signals) -> None:
    if process is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def _end(process: subprocess.Popen[bytes]) -> None:
    _signal(process, signal.SIGCONT)
    _signal(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)
    _signal(process, signal.SIGKILL)
    process.wait()


def _await_answer(
    name: str,
    process: subprocess.Popen[bytes],
    answers: Callable[[], bool],
    limit_s: float,
    directory: Path,
) -> None:
    give_up_s = time.monotonic() + limit_s
    while not answers():
        if process.poll() is not None:
            raise StartFailed(f"{name} ended with {process.returncode}; see {directory}")
        if time.monotonic() > give_up_s:
            _end(process)
            raise StartFailed(f"{name} did not answer within {limit_s:g} s; see {directory}")
        time.sleep(_POLL_S)
