"""Each setting that counts as live: changed in the file, it is seen by whoever uses it, with no restart."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import structlog
from fastapi import FastAPI

from clientauth.service import Identity
from foundation.clock import ManualClock
from offloader.app import Offloader, running_offloader
from offloader.backends.base import Backend
from offloader.backends.docker.backend import DockerBackend
from offloader.backends.docker.options import DockerOptions
from offloader.backends.kubernetes.backend import KubernetesBackend
from offloader.backends.kubernetes.options import KubernetesOptions
from offloader.backends.process import ProcessBackend
from offloader.backends.retuned import Retuned
from offloader.backends.stub import StubBackend
from offloader.backends.surroundings import Surroundings
from offloader.cli import serve, worker
from offloader.errors import ListensTooOften
from offloader.http_server import HttpServer
from offloader.live_settings import LIVE, LIVE_OF_WORKER
from offloader.logging_setup import set_up_logging
from offloader.models import JobType
from offloader.reload import Reloader, Reloads
from offloader.settings import JobsSettings, read_settings
from offloader.store.key_place import KeyPlace
from offloader.store.secret_key import Cipher
from offloader.worker.running import RunningWorker
from testbed.certificates import make_certificates
from tests.offloader.conftest import RECORDER, Running

SITE, INSIDE = "https://chat.example.com", "http://10.0.0.5:8065"
SPEECH = "https://speech.example.com"
GIB, HOUR_S = 1 << 30, 3600


class RealBackends(StubBackend):
    """Runs nothing, and hands settings to every backend that takes jobs' surroundings from them."""

    def __init__(self, jobs: JobsSettings) -> None:
        super().__init__()
        docker, kubernetes = DockerOptions.of(jobs), KubernetesOptions.of(jobs)
        process = Surroundings(jobs.network)
        self.around = [process, docker.surroundings, kubernetes.surroundings]
        self.images = [docker.images, kubernetes.images]
        self.behind: list[Retuned] = [
            ProcessBackend(jobs.process, environ={}, surroundings=process),
            DockerBackend(docker, environ={}),
            KubernetesBackend(kubernetes, environ={}),
        ]

    def retune(self, jobs: JobsSettings) -> None:
        for backend in self.behind:
            backend.retune(jobs)

    def trust(self, ca: bytes) -> None:
        for backend in self.behind:
            backend.trust(ca)

    def variables(self, name: str, **given: str) -> str:
        """What every job is told as `name`; each backend tells the same."""
        [told] = {around.variables(given, ca_path=None).get(name, "") for around in self.around}
        return told

    def image(self) -> str:
        [image] = {images.image(RECORDER, JobType.RECORDING) for images in self.images}
        return image

    def ca(self) -> bytes:
        [content] = {around.good_ca or b"" for around in self.around}
        return content


@dataclass
class Rig:
    """A process with a configuration file, and what tests see of it."""

    file: Path
    backend: RealBackends
    reloader: Reloader
    reloads: Reloads
    clock: ManualClock
    console: io.StringIO
    log_file: Path
    service: Running
    _calls: int = 0
    _filled: bool = False

    @property
    def offloader(self) -> Offloader:
        return self.service.offloader

    async def post(self, *, client: str = "plugin", **changes: Any) -> httpx.Response:
        """A job of another call each time."""
        self._calls += 1
        data = {"call_id": f"c{self._calls}", "post_id": f"p{self._calls}", "auth_token": "t" * 26}
        changes["input_data"] = data | changes.get("input_data", {})
        return await self.service.post_job(client=client, **changes)

    async def fill(self) -> None:
        """One call is in progress."""
        if not self._filled:
            self._filled = True
            assert (await self.post()).status_code == 200

    async def refusal(self, **changes: Any) -> str:
        """Of a job; empty: it is let in."""
        response = await self.post(**changes)
        return "" if response.status_code == 200 else str(response.json()["error"])

    async def launched(self, **asked: Any) -> Any:
        """Of a recording that asks for these: what its job is given."""
        response = await self.post(input_data=asked)
        return self.backend.launched[response.json()["id"]].input_data

    async def take_over(self, text: str) -> None:
        """The file says this from now on, and has been read."""
        self.file.write_text(text)
        self.clock.advance(seconds=1)
        now_s = self.clock.utc_now().timestamp()
        self.reloader.ask()
        async with asyncio.timeout(20):
            while any(at_s < now_s for _, at_s in self.reloads.ended.values()):
                await asyncio.sleep(0.001)
        assert all(good for good, _ in self.reloads.ended.values())


Look = Callable[[Rig], Awaitable[object]]


@dataclass(frozen=True)
class Case:
    """A setting of `LIVE`: its values in TOML, and what is seen while each is in force."""

    old: str
    new: str
    look: Look
    before: object
    after: object
    besides: dict[str, str] = field(default_factory=dict)
    """What else the file says all the time."""


async def peer_told(rig: Rig) -> object:
    headers = rig.service.basic("plugin") | {"X-Forwarded-For": "203.0.113.7"}
    with structlog.testing.capture_logs() as lines:
        await rig.service.http.get("/jobs", headers=headers)
    return next(line["peer"] for line in lines if line.get("route") == "/jobs")


async def newcomer(rig: Rig) -> object:
    """Status for somebody who registers with the first request."""
    rig._calls += 1
    return (await rig.post(client=f"newcomer{rig._calls}")).status_code


async def second_newcomer(rig: Rig) -> object:
    await newcomer(rig)
    return await newcomer(rig)


async def waits_s(rig: Rig) -> object:
    """How long a job may wait for a place when there is none."""
    await rig.fill()
    async with waiting(rig) as line:
        return line.get("at_most_s", 0.0)


@contextlib.asynccontextmanager
async def waiting(rig: Rig) -> AsyncIterator[dict[str, Any]]:
    """A job that waits while the block runs, by its line in the log; or, refused at once, its answer."""
    with structlog.testing.capture_logs() as lines:
        asking = asyncio.create_task(rig.post())
        said: list[Any] = []
        async with asyncio.timeout(20):
            while not (said or asking.done()):
                await asyncio.sleep(0.001)
                said = [line for line in lines if line["event"] == "admission.waiting"]
    try:
        yield said[0] if said else asking.result().json()
    finally:
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking


async def second_in_line(rig: Rig) -> object:
    """What the second job of a client is told that finds no place."""
    await rig.fill()
    async with waiting(rig), waiting(rig) as line:
        return line.get("error", "waits")


async def second_stream(rig: Rig) -> object:
    client = Identity("plugin", admin=False)
    async with rig.offloader.events.listen(client):
        try:
            rig.offloader.events.check_room(client)
        except ListensTooOften:
            return "too many"
    return "listens"


async def site_elsewhere(rig: Rig) -> object:
    """Whether a job for another site is let in, whether the outbox may publish there, what jobs are told of
    the one that is named."""
    elsewhere = "https://other.example.com"
    refused = "jobs.allowed_site_urls" in await rig.refusal(input_data={"site_url": elsewhere})
    by_outbox = bool(rig.offloader.live.outbox._refusal(elsewhere))
    return refused, by_outbox, await site_is_named(rig)


async def site_is_named(rig: Rig) -> object:
    return rig.backend.variables("SITE_URL_ALLOWED", SITE_URL=SITE)


async def speech_elsewhere(rig: Rig) -> object:
    """Whether a job may name another speech service, and what jobs are told."""
    refused = await rig.refusal(input_data={"azure_speech_endpoint": f"{SPEECH}/x"})
    return "jobs.allowed_speech_urls" in refused, await speech_told(rig)


async def speech_told(rig: Rig) -> object:
    return rig.backend.variables("ALLOWED_SPEECH_URLS", AZURE_SPEECH_ENDPOINT=SPEECH)


async def trusted(rig: Rig) -> object:
    return rig.backend.ca()


def kept(code: int) -> Look:
    """Whether a job that ended with `code` is known two hours later."""

    async def look(rig: Rig) -> object:
        job_id = (await rig.post()).json()["id"]
        rig.backend.exit(job_id, code)
        await rig.service.check()
        rig.clock.advance(seconds=2 * HOUR_S)
        await rig.service.check()
        headers = rig.service.basic("plugin")
        return (await rig.service.http.get(f"/jobs/{job_id}", headers=headers)).status_code == 200

    return look


async def publication(rig: Rig) -> object:
    """Of a result, two hours after its job."""
    job_id = (await rig.post()).json()["id"]
    rig.backend.exit(job_id, 1, unpublished=True)
    await rig.service.check()
    for _ in range(2):
        rig.clock.advance(seconds=HOUR_S + 60)
        await rig.service.check()
        for attempt in [name for name in rig.backend.observations if "salvage" in name]:
            rig.backend.exit(attempt, 1, unpublished=True)
        await rig.service.check()
    headers = rig.service.basic("plugin")
    listed = (await rig.service.http.get("/jobs", headers=headers)).json()["jobs"]
    return next(job["publication"]["state"] for job in listed if job["id"] == job_id)


async def slots(rig: Rig) -> object:
    """For work after calls: of the entrance, of transcribing again, and attempts of the outbox at a time."""
    for _ in range(4):
        job_id = (await rig.post()).json()["id"]
        rig.backend.exit(job_id, 1, unpublished=True)
    await rig.service.check()
    rig.clock.advance(seconds=HOUR_S)
    await rig.service.check()  # attempts do not end here
    policy = rig.offloader.entrance.policy
    return (
        policy.post_call_slots,
        rig.offloader.live.retranscriber._slots,
        len(rig.backend.salvaged),
    )


async def let_in(rig: Rig) -> object:
    return await rig.refusal()


async def let_in_besides(rig: Rig) -> object:
    await rig.fill()
    return await rig.refusal()


async def duration_s(rig: Rig) -> object:
    job_id = (await rig.post(max_duration_sec=9999)).json()["id"]
    return (await rig.service.get_job(job_id))["max_duration_sec"]


def picture(name: str, asked: int) -> Look:
    async def look(rig: Rig) -> object:
        return (await rig.launched(**{name: asked}))[name]

    return look


async def image(rig: Rig) -> object:
    return rig.backend.image()


async def site_for_jobs(rig: Rig) -> object:
    return rig.backend.variables("SITE_URL", SITE_URL=SITE)


async def on_console(rig: Rig) -> object:
    return _logged_levels(lambda: rig.console.getvalue())


async def in_file(rig: Rig) -> object:
    return _logged_levels(rig.log_file.read_text)


def _logged_levels(read: Callable[[], str]) -> list[str]:
    """Those of four lines, one of each level, that get there."""
    levels = ["debug", "info", "warning", "error"]
    seen = len(read())
    for level in levels:
        getattr(structlog.get_logger(), level)(f"test.{level}_line")
    return [level for level in levels if f"test.{level}_line" in read()[seen:]]


ONE_PLACE = {"jobs.max_concurrent_jobs": "1"}
CASES = {
    "api.http.trusted_proxies": Case(
        "[]", '["10.0.0.0/8"]', peer_told, before="10.0.0.9", after="203.0.113.7"
    ),
    "api.security.allowed_clients": Case("[]", '["plugin"]', newcomer, before=200, after=401),
    "api.security.allowed_networks": Case(
        "[]", '["192.0.2.0/24"]', newcomer, before=200, after=401
    ),
    "api.security.registration_limits.per_network": Case(
        "0", "1", second_newcomer, before=200, after=429
    ),
    "api.security.registration_limits.total": Case(
        "0", "1", second_newcomer, before=200, after=429
    ),
    "jobs.admission_wait_s": Case("0", "7", waits_s, before=0.0, after=7.0, besides=ONE_PLACE),
    "jobs.allowed_site_urls": Case(
        "[]", f'["{SITE}"]', site_elsewhere, (False, False, ""), (True, True, "true")
    ),
    "jobs.allowed_speech_urls": Case(
        "[]", f'["{SPEECH}"]', speech_elsewhere, (True, ""), (False, SPEECH)
    ),
    "jobs.ca_cert_file": Case('""', '"CA_FILE"', trusted, before=b"", after=b"CA_FILE"),
    "jobs.client_limits.disk": Case(
        "0", '"1MiB"', let_in, before="", after="jobs.client_limits.disk"
    ),
    "jobs.client_limits.event_streams": Case(
        "0", "1", second_stream, before="listens", after="too many"
    ),
    "jobs.client_limits.queue": Case(
        "0",
        "1",
        second_in_line,
        before="waits",
        after="jobs.client_limits.queue",
        besides={**ONE_PLACE, "jobs.admission_wait_s": "60"},
    ),
    "jobs.client_limits.slots": Case(
        "0", "1", let_in_besides, before="", after="jobs.client_limits.slots"
    ),
    "jobs.completed_jobs_retention_time": Case('"1d"', '"1h"', kept(0), before=True, after=False),
    "jobs.failed_jobs_retention_time": Case('"30d"', '"1h"', kept(1), before=True, after=False),
    "jobs.image_registry": Case(
        '"mattermost"', '"ours"', let_in, before="", after="failed to validate runner"
    ),
    "jobs.max_concurrent_jobs": Case(
        "1", "2", let_in_besides, before="max concurrent jobs reached", after=""
    ),
    "jobs.max_duration_s": Case("86400", "600", duration_s, before=9999, after=600),
    "jobs.max_frame_rate": Case("60", "10", picture("frame_rate", 60), before=60, after=10),
    "jobs.max_height_px": Case("2160", "720", picture("height", 2160), before=2160, after=720),
    "jobs.max_width_px": Case("3840", "1280", picture("width", 3840), before=3840, after=1280),
    "jobs.min_free_disk": Case('"0"', '"99GiB"', let_in, before="", after="not enough disk"),
    "jobs.outbox_max_age": Case(
        '"14d"', '"1h"', publication, before="waiting", after="unpublishable"
    ),
    "jobs.post_call_slots": Case("2", "3", slots, before=(2, 2, 2), after=(3, 3, 3)),
    "jobs.runner_images": Case(
        "{}", '{"*" = "ours:1"}', image, before="/calls-recorder:", after="ours:1"
    ),
    "jobs.site_url_overrides": Case(
        "{}", f'{{"{SITE}" = "{INSIDE}"}}', site_for_jobs, before=SITE, after=INSIDE
    ),
    "logger.console_level": Case(
        '"error"', '"info"', on_console, ["error"], ["info", "warning", "error"]
    ),
    "logger.file_level": Case('"error"', '"warn"', in_file, ["error"], ["warning", "error"]),
}
"""By the names of `LIVE`, which alone says what there is."""

OF_WORKER: dict[str, tuple[Look, object, object]] = {
    "jobs.allowed_site_urls": (site_is_named, "", "true"),
    "jobs.allowed_speech_urls": (speech_told, "", SPEECH),
    "jobs.ca_cert_file": (trusted, b"", b"CA_FILE"),
}
"""What a worker has of it, where that is less."""


def written(name: str, value: str, besides: Mapping[str, str]) -> str:
    """The configuration file."""
    lines = {"jobs.admission_wait_s": "0", "jobs.max_concurrent_jobs": "9", **besides, name: value}
    return "".join(f"{key} = {value}\n" for key, value in lines.items())


@pytest.fixture(scope="module")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("ca") / "made", address="127.0.0.1").ca


@pytest.fixture
async def started(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[..., Awaitable[Rig]]]:
    """Start a service or a worker by `written`, with the wiring of its command."""
    monkeypatch.setattr("offloader.supervisor.POLL_INTERVAL_S", 3600.0)
    shutil.copy(empty_store, tmp_path / "store.db")
    environ = {
        "STORE_DATASOURCE": str(tmp_path / "store.db"),
        "JOBS_PROCESS_JOBSDIR": str(tmp_path / "jobs"),
        "API_SECURITY_ALLOWSELFREGISTRATION": "true",
        "LOGGER_ENABLEFILE": "true",
        "LOGGER_FILELOCATION": str(tmp_path / "log"),
    }
    async with contextlib.AsyncExitStack() as stack:

        async def start(text: str, *, of_worker: bool = False) -> Rig:
            file, console = tmp_path / "config.toml", io.StringIO()
            file.write_text(text)
            reading = read_settings(file, environ)
            assert not reading.problems
            set_up_logging(reading.settings.logger, stream=console)
            backend = RealBackends(reading.settings.jobs)
            backend.free_disk = 100 * GIB
            clock = ManualClock()
            if of_worker:
                monkeypatch.setattr(worker, "SystemClock", lambda: clock)
                own = worker_of(backend, tmp_path / "key")
                server = HttpServer(own.app)
                reloader = worker._reloader(file, environ, reading, own, server)
                service = cast(Running, None)
            else:
                running = running_offloader(
                    reading.settings, environ={}, clock=clock, backend=backend
                )
                offloader = await stack.enter_async_context(running)
                transport = httpx.ASGITransport(offloader.app, client=("10.0.0.9", 1))
                http = httpx.AsyncClient(transport=transport, base_url="http://offloader")
                await stack.enter_async_context(http)
                server = HttpServer(offloader.app)
                reloader = serve._reloader(file, environ, reading, offloader.live, server)
                service = Running(offloader, http, backend, clock)
            await stack.enter_async_context(serve.reloading(reloader))
            reloads = reloader._reloads
            log_file = tmp_path / "log"
            return Rig(file, backend, reloader, reloads, clock, console, log_file, service)

        yield start
    for handler in logging.getLogger().handlers:
        handler.close()


def worker_of(backend: RealBackends, key: Path) -> RunningWorker:
    """One without a broker: what settings are handed to is there."""
    nobody = cast(Any, None)
    return RunningWorker(
        app=FastAPI(),
        house=nobody,
        tracks=nobody,
        closing=asyncio.Event(),
        stop_grace_s=1.0,
        backend=cast(Backend, backend),
        cipher=Cipher("1" * 32),
        key_place=KeyPlace({"OFFLOADER_SECRET_KEY": "1" * 32}, key),
        tls=ssl.create_default_context(),
    )


def seen(value: object, wanted: object) -> bool:
    """A text that is wanted is part of what is told."""
    if isinstance(wanted, str) and wanted and isinstance(value, str):
        return wanted in value
    return value == wanted


@pytest.mark.parametrize("name", sorted(LIVE))
async def test_a_live_setting_is_seen_by_whoever_uses_it(
    name: str, started: Callable[..., Awaitable[Rig]], ca_file: Path
) -> None:
    case = CASES[name]
    new, after = with_ca(ca_file, case.new, case.after)
    rig = await started(written(name, case.old, case.besides))
    told = await case.look(rig)
    assert seen(told, case.before), told
    await rig.take_over(written(name, new, case.besides))
    told = await case.look(rig)
    assert seen(told, after), told


@pytest.mark.parametrize("name", sorted(LIVE_OF_WORKER))
async def test_a_live_setting_of_a_worker_is_seen_by_whoever_uses_it(
    name: str, started: Callable[..., Awaitable[Rig]], ca_file: Path
) -> None:
    case = CASES[name]
    look, before, after = OF_WORKER.get(name, (case.look, case.before, case.after))
    new, after = with_ca(ca_file, case.new, after)
    rig = await started(written(name, case.old, case.besides), of_worker=True)
    told = await look(rig)
    assert seen(told, before), told
    await rig.take_over(written(name, new, case.besides))
    told = await look(rig)
    assert seen(told, after), told


def with_ca(file: Path, new: str, after: object) -> tuple[str, object]:
    return new.replace("CA_FILE", str(file)), file.read_bytes() if after == b"CA_FILE" else after


def test_every_live_setting_has_its_observation_and_nothing_else_has() -> None:
    assert set(CASES) == LIVE
    assert set(OF_WORKER) < LIVE_OF_WORKER < LIVE
    assert all(case.before != case.after for case in CASES.values())
