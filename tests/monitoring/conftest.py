"""Alerts, dashboards, Prometheus' own programs, and an SFU for them to look at."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from rtc import calls_dc
from rtc.calls_dc import DcMessage, DcType
from rtc.peer import Peer
from rtc.sctp import DataChannel
from sfu.loadtest.capabilities import client_capabilities
from sfu.loadtest.signaling import PluginConnection, register
from sfu.loadtest.transport import ice_factory
from sfu.messages import Close, Join, Leave, Message, Rtc, RtcMessage, RtcType
from testbed.brokers import free_port
from testbed.polling import until
from testbed.ports import HOST, Ports
from testbed.processes import descendants, send_signal

ROOT = Path(__file__).resolve().parents[2]
ALERTS = sorted(ROOT.glob("helm/*/alerts.yaml"))
DASHBOARDS = sorted(ROOT.glob("helm/*/dashboards/*.json"))
SAMPLE = ROOT / "deploy/monitoring/prometheus.yml"

# Grafana's own variables as a dashboard of the last minutes would have them.
_VARIABLES = {"$__rate_interval": "1m", "$job": ".+"}
_BEYOND_A_CALL = {
    "calls_offloader_worker_up",
    "calls_offloader_certificate_expiry_timestamp_seconds",
}
"""A call on one host over plain HTTP has none of these: they are asked for where the alerts are provoked."""
_READY_S = 30.0
_SFU_CLIENT = ("plugin", "k" * 32)


@dataclass(frozen=True)
class Query:
    """One of a panel."""

    where: str
    expr: str
    """As Prometheus takes it."""

    @property
    def metrics(self) -> set[str]:
        """The names in it."""
        return set(re.findall(r"\b(?:calls_offloader|rtcd)_\w+", self.expr))

    @property
    def beyond_a_call(self) -> bool:
        """Whether it wants a worker or a certificate."""
        return bool(self.metrics & _BEYOND_A_CALL)


@dataclass(frozen=True)
class Prometheus:
    """A real one, for one test alone."""

    http: httpx.AsyncClient

    async def ask(self, path: str, **parameters: Any) -> Any:
        answer = await self.http.get(f"/api/v1/{path}", params=parameters)
        document = answer.json()
        assert document["status"] == "success", f"{parameters}: {document.get('error')}"
        return document["data"]

    async def over(self, expr: str, *, begin: float, end: float, step: float = 2) -> list[Any]:
        """The series of a query over that time, each with at least one number in it."""
        data = await self.ask("query_range", query=expr, start=begin, end=end, step=step)
        return [
            series
            for series in data["result"]
            if any(value not in ("NaN", "+Inf") for _, value in series["values"])
        ]

    async def alerts(self) -> list[Any]:
        """Those that fire now or will do so soon."""
        return list((await self.ask("alerts"))["alerts"])


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (panel for panel in board["panels"] if panel["type"] != "row")


@pytest.fixture(scope="session")
def boards() -> dict[str, dict[str, Any]]:
    """Dashboards by the names of their files."""
    return {path.stem: json.loads(path.read_text()) for path in DASHBOARDS}


@pytest.fixture(scope="session")
def queries(boards: dict[str, dict[str, Any]]) -> list[Query]:
    """All of them, variables filled in."""
    found = []
    for name, board in boards.items():
        for panel in panels(board):
            for target in panel["targets"]:
                expr = target["expr"]
                for variable, value in _VARIABLES.items():
                    expr = expr.replace(variable, value)
                found.append(Query(f"{name}/{panel['title']}/{target['refId']}", expr))
    return found


@pytest.fixture(scope="session")
def alerts() -> list[dict[str, Any]]:
    return [
        rule
        for path in ALERTS
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


@pytest.fixture(scope="session")
def prometheus_program(engine_missing: Callable[[str, str], None]) -> Callable[[str], str]:
    """The path of `prometheus` or `promtool`."""

    def path(name: str) -> str:
        program = shutil.which(name)
        if program is None:
            engine_missing("prometheus", f"no {name}: apt-get install prometheus")
            raise AssertionError  # the line above never returns
        return program

    return path


class Guest:
    """A participant of a call on the SFU, without media; a forger's certificate is not the one that it names.

    Implements `PeerEvents`."""

    def __init__(self, connection: PluginConnection, name: str, *, forger: bool = False) -> None:
        self.session_id = name.ljust(26, "x")
        self._forger = forger
        self._connection = connection
        self._channel: asyncio.Future[DataChannel] = asyncio.get_running_loop().create_future()
        self.over = asyncio.Event()
        self.descriptions: asyncio.Queue[str] = asyncio.Queue()
        self._peer = Peer(
            ice=ice_factory(HOST),
            capabilities=client_capabilities(transport_cc=False),
            events=self,
            channel_label=calls_dc.CHANNEL_LABEL,
        )

    async def join(self) -> None:
        """Until it is connected, or the SFU has noticed the forgery."""
        self._peer.negotiation.add_data_section()
        offer = await self._peer.create_offer()
        if self._forger:
            offer = re.sub(
                r"(a=fingerprint:sha-256 )[0-9A-F:]+", r"\g<1>" + ":".join(["00"] * 32), offer
            )
        self._connection.send(Join(call_id="call", user_id="u", session_id=self.session_id))
        data = json.dumps({"type": "offer", "sdp": offer}).encode()
        self._connection.send(Rtc(RtcMessage(RtcType.SDP, self.session_id, data)))
        async with asyncio.timeout(_READY_S):
            await self._peer.accept_answer(await self.descriptions.get())
            await (self.over.wait() if self._forger else asyncio.shield(self._channel))

    async def report_loss(self, ratio: float) -> None:
        """Once, over the data channel."""
        (await self._channel).send(calls_dc.encode(DcMessage(DcType.LOSS_RATE, ratio)))

    async def close(self) -> None:
        self._connection.send(Leave(self.session_id))
        self._channel.cancel()
        await self._peer.close()

    def peer_connected(self) -> None: ...

    def peer_failed(self, reason: str) -> None: ...

    def channel_opened(self, channel: DataChannel) -> None:
        self._channel.set_result(channel)

    def channel_message(self, channel: DataChannel, message: bytes | str) -> None: ...

    def rtp_received(self, packet: bytes, arrival_ns: int) -> None: ...

    def rtcp_received(self, compound: bytes) -> None: ...


class Sfu:
    """The bundled one, as a process with two media processes, and one plugin's connection to it."""

    def __init__(self, directory: Path, ports: Ports) -> None:
        self.address = f"{HOST}:{ports.sfu}"
        self._media_port = str(ports.media)
        self._directory = directory
        self._log = directory / "sfu.log"
        self._guests: dict[str, Guest] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        environment = {
            "PATH": os.environ["PATH"],
            "RTCD_API_HTTP_LISTENADDRESS": self.address,
            "RTCD_API_SECURITY_ALLOWSELFREGISTRATION": "true",
            **dict.fromkeys(("RTCD_RTC_ICEADDRESSUDP", "RTCD_RTC_ICEADDRESSTCP"), HOST),
            **dict.fromkeys(("RTCD_RTC_ICEPORTUDP", "RTCD_RTC_ICEPORTTCP"), self._media_port),
            "RTCD_RTC_WORKERPROCESSES": "2",
            "RTCD_STORE_DATASOURCE": str(self._directory / "sfu"),
            "RTCD_LOGGER_ENABLEFILE": "false",
        }
        with self._log.open("wb") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "sfu"), env=environment, stdout=log, stderr=log
            )
        try:
            await until(self._answers, "the SFU", limit_s=_READY_S)
            name, key = _SFU_CLIENT
            url = f"http://{self.address}"
            await register(url, name, key)
            self.plugin = PluginConnection(url, client_id=name, auth_key=key, on_message=self._take)
            await self.plugin.open()
            serving = asyncio.create_task(self.plugin.run())
            try:
                yield
            finally:
                await asyncio.gather(*(guest.close() for guest in self._guests.values()))
                serving.cancel()
                await asyncio.wait([serving])
                await self.plugin.close()
        finally:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()  # its media processes end with it
            await self.process.wait()

    async def guest(self, name: str, *, forger: bool = False) -> Guest:
        guest = Guest(self.plugin, name, forger=forger)
        self._guests[guest.session_id] = guest
        await guest.join()
        return guest

    async def media_dies_again_and_again(self) -> None:
        """Until cancelled."""
        pid = self.process.pid
        while True:
            for child in descendants(pid):
                send_signal(child, signal.SIGKILL)
            await asyncio.sleep(0.2)

    def _take(self, message: Message) -> None:
        if isinstance(message, Rtc) and message.message.type is RtcType.SDP:
            _, text = calls_dc.read_sdp_json(message.message.data)
            self._guests[message.message.session_id].descriptions.put_nowait(text)
        elif isinstance(message, Close) and message.session_id in self._guests:
            self._guests[message.session_id].over.set()

    async def _answers(self) -> bool:
        assert self.process.returncode is None, self._log.read_text()
        try:
            _, writer = await asyncio.open_connection(*self.address.split(":"))
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True


@pytest.fixture
def bundled_sfu(tmp_path: Path) -> Callable[[Ports], Sfu]:
    """Where it would be: it runs within `running()`."""
    return lambda ports: Sfu(tmp_path, ports)


@pytest.fixture
def prometheus(
    prometheus_program: Callable[[str], str], tmp_path: Path
) -> Callable[..., AbstractAsyncContextManager[Prometheus]]:
    """`prometheus(targets, every="1s", rules=None, ca=None)`: Debian's, with our sample configuration but for
    addresses by job, how often it looks, rule files, and the authority of a job service that speaks HTTPS."""

    @asynccontextmanager
    async def start(
        targets: Mapping[str, Sequence[str]],
        *,
        every: str = "1s",
        rules: Sequence[Path] | None = None,
        ca: Path | None = None,
    ) -> AsyncIterator[Prometheus]:
        directory = tmp_path / "prometheus"
        directory.mkdir()
        (directory / "prometheus.yml").write_text(_configuration(targets, every, rules, ca))
        address = f"127.0.0.1:{free_port()}"
        with (directory / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                prometheus_program("prometheus"),
                f"--config.file={directory}/prometheus.yml",
                f"--storage.tsdb.path={directory}/data",
                f"--web.listen-address={address}",
                stdout=log,
                stderr=log,
            )
        try:
            url = f"http://{address}"
            async with httpx.AsyncClient(base_url=url, timeout=20, trust_env=False) as http:

                async def ready() -> bool:
                    try:
                        return (await http.get("/-/ready")).status_code == httpx.codes.OK
                    except httpx.TransportError:
                        return False

                await until(ready, "prometheus", limit_s=_READY_S)
                yield Prometheus(http)
        finally:
            process.terminate()
            async with asyncio.timeout(_READY_S):
                await process.wait()

    return start


def _configuration(
    targets: Mapping[str, Sequence[str]], every: str, rules: Sequence[Path] | None, ca: Path | None
) -> str:
    made = yaml.safe_load(SAMPLE.read_text())
    made["global"] = {"scrape_interval": every, "evaluation_interval": every}
    own = [(SAMPLE.parent / name).resolve() for name in made["rule_files"]]
    made["rule_files"] = [str(path) for path in rules or own]
    made["scrape_configs"] = [
        {**job, "static_configs": [{"targets": list(targets[job["job_name"]])}]}
        for job in made["scrape_configs"]
        if job["job_name"] in targets
    ]
    if ca is not None:
        (service,) = (job for job in made["scrape_configs"] if job["job_name"] == "calls-offloader")
        service |= {"scheme": "https", "tls_config": {"ca_file": str(ca)}}
    return yaml.safe_dump(made)
