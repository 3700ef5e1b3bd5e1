"""What changes on disk is taken over while the service runs; what cannot be used changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog

from foundation.clock import ManualClock
from foundation.layered_config import ConfigError
from offloader.backends.process_launch import _ca_path
from offloader.backends.surroundings import Surroundings
from offloader.cli.serve import new_loop, reloading, serve
from offloader.http_server import HttpServer
from offloader.listen import bind
from offloader.live_settings import LIVE, LIVE_OF_WORKER
from offloader.reload import LOOK_EVERY_S, Loaded, Reloader, Reloads
from offloader.reload_parts import (
    CaBundlePart,
    CertificatePart,
    ConfigurationPart,
    SecretKeyPart,
)
from offloader.setting_keys import KEYS
from offloader.settings import Settings, TlsSettings, read_settings
from offloader.store.key_place import KeyPlace
from offloader.store.secret_key import Cipher
from testbed.certificates import make_certificates

K1, K2 = "1" * 32, "2" * 32


class Configured:
    """A configuration file, and what was taken over of it."""

    def __init__(self, directory: Path, text: str, **environ: str) -> None:
        self.path = directory / "config.toml"
        self.path.write_text(text)
        self.applied: list[Settings] = []
        reading = read_settings(self.path, environ)
        assert not reading.problems
        self.part = ConfigurationPart(
            self.path, environ, reading, live=LIVE, apply=self.applied.append
        )

    def load(self, text: str) -> Loaded:
        self.path.write_text(text)
        return self.part.load()


def test_what_can_change_is_taken_over_and_what_cannot_is_named_and_stays(tmp_path: Path) -> None:
    configured = Configured(tmp_path, "[jobs]\nmax_concurrent_jobs = 2\n")
    with structlog.testing.capture_logs() as lines:
        loaded = configured.load(
            '[jobs]\nmax_concurrent_jobs = 5\nrunner_images = {"*" = "ours:1"}\nstop_grace_s = 7\n'
            '[api.http]\nlisten_address = ":1"\n[logger]\nconsole_level = "debug"\n'
        )
    assert loaded.changed == (
        "jobs.max_concurrent_jobs",
        "jobs.runner_images",
        "logger.console_level",
    )
    assert lines == [
        {
            "event": "config.needs_restart",
            "log_level": "warning",
            "settings": ["api.http.listen_address", "jobs.stop_grace_s"],
        }
    ]
    assert not configured.applied
    loaded.commit()
    [settings] = configured.applied
    assert settings is configured.part.settings
    assert settings.jobs.max_concurrent_jobs == 5
    assert settings.jobs.runner_images == {"*": "ours:1"}
    assert (settings.jobs.stop_grace_s, settings.api.listen_address) == (300.0, ":4545")


def test_the_environment_overrides_what_is_taken_over(tmp_path: Path) -> None:
    configured = Configured(tmp_path, "", JOBS_MAXCONCURRENTJOBS="3", LOGGER_CONSOLELEVEL="warn")
    loaded = configured.load(
        "[jobs]\nmax_concurrent_jobs = 9\nmax_frame_rate = 20\n[logger]\nconsole_level = 'debug'\n"
    )
    assert loaded.changed == ("jobs.max_frame_rate",)
    loaded.commit()
    assert configured.part.settings.jobs.max_concurrent_jobs == 3


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[jobs", "config.toml: not a TOML file"),
        ("[jobs]\nmax_frame_rate = 20\nmax_width_px = 9999\n", "jobs.max_width_px"),
        ("[jobs]\nmax_frame_rate = 20\nmax_concurrent_jobs = 'many'\n", "jobs.max_concurrent_jobs"),
        pytest.param(
            None,
            "no such file any more",
            marks=pytest.mark.documents("a-changed-file-that-cannot-be-used"),
        ),
    ],
)
def test_a_bad_file_keeps_all_of_the_old_configuration(
    tmp_path: Path, text: str | None, told: str, documented: Any
) -> None:
    configured = Configured(tmp_path, "")
    before = configured.part.settings
    if text is None:
        configured.path.unlink()
    else:
        configured.path.write_text(text)
    with pytest.raises(ConfigError, match=told) as refused:
        configured.part.load()
    documented.marked(str(refused.value))
    assert configured.part.settings is before
    assert configured.applied == []


def test_every_live_setting_is_a_setting() -> None:
    assert set(KEYS) >= LIVE >= LIVE_OF_WORKER


async def test_what_is_taken_over_counts_for_the_next_request(start: Any, tmp_path: Path) -> None:
    running = await start()
    offloader = running.offloader
    reading = read_settings(
        tmp_path / "none.toml", {"STORE_DATASOURCE": str(tmp_path / "store.db")}
    )
    environ = {
        "STORE_DATASOURCE": str(tmp_path / "store.db"),
        "JOBS_MAXCONCURRENTJOBS": "7",
        "JOBS_POSTCALLSLOTS": "3",
        "JOBS_MINFREEDISK": "0",
        "JOBS_ADMISSIONWAITS": "0",
        "JOBS_CLIENTLIMITS_SLOTS": "1",
        "JOBS_CLIENTLIMITS_EVENTSTREAMS": "1",
        "JOBS_ALLOWEDSITEURLS": "https://chat.example.com",
        "JOBS_MAXDURATIONS": "600",
        "API_SECURITY_ALLOWEDCLIENTS": "plugin,somebody",
        "API_HTTP_TRUSTEDPROXIES": "10.0.0.0/8",
    }
    changed = read_settings(tmp_path / "none.toml", environ)
    assert not changed.problems
    assert reading.settings != changed.settings
    elsewhere = {"call_id": "c2", "post_id": "p2", "site_url": "https://other.example.com"}
    assert (await running.post_job(input_data=elsewhere)).status_code == 200
    offloader.live.apply(changed.settings)
    assert offloader.entrance.policy.max_calls == 7
    refused = await running.post_job(input_data=elsewhere | {"call_id": "c3"})
    assert "jobs.allowed_site_urls" in refused.text
    allowed = elsewhere | {"site_url": "https://chat.example.com", "call_id": "c4", "post_id": "p4"}
    assert "jobs.client_limits.slots" in (await running.post_job(input_data=allowed)).text
    second = await running.post_job(client="somebody", input_data=allowed, max_duration_sec=9999)
    job = await running.get_job(second.json()["id"], client="somebody")
    assert job["max_duration_sec"] == 600
    assert (await running.post_job(client="stranger")).status_code == 401


async def test_a_change_is_a_record_of_names_and_a_digest(start: Any, tmp_path: Path) -> None:
    running = await start(AUDIT_FILE=str(tmp_path / "audit.jsonl"))
    live = running.offloader.live
    settings = read_settings(tmp_path / "none.toml", {}).settings
    live.note("configuration", ("jobs.http_proxy", "logger.console_level"), settings)

    async def recorded() -> str:
        while "config.changed" not in (text := (tmp_path / "audit.jsonl").read_text()):
            await asyncio.sleep(0.01)
        return text

    async with asyncio.timeout(20):
        line = (await recorded()).splitlines()[-1]
    assert '"changed":"jobs.http_proxy,logger.console_level"' in line.replace(": ", ":")
    assert "configuration_sha256" in line


def test_secret_keys_of_the_file_are_taken_over_and_a_bad_file_keeps_the_old(
    tmp_path: Path,
) -> None:
    place, cipher = KeyPlace({}, tmp_path / "key"), Cipher(K1)
    part = SecretKeyPart(place, cipher)
    place.file.write_text(f"{K1}\n")
    assert part.load().changed == ()
    place.file.write_text(f"{K2}\n{K1}\n")
    sealed = cipher.encrypt("hush", context=("a",))
    part.load().commit()
    assert [key.id for key in cipher.keys] == [key.id for key in Cipher(K2, K1).keys]
    assert cipher.decrypt(sealed, context=("a",)) == "hush"
    place.file.write_text("short")
    with pytest.raises(Exception, match="5 characters: should be at least 32"):
        part.load()
    assert len(cipher.keys) == 2
    assert SecretKeyPart(KeyPlace({"OFFLOADER_SECRET_KEY": K1}, place.file), cipher).files() == ()


@pytest.mark.documents("a-changed-file-that-cannot-be-used/2")
def test_jobs_get_the_ca_bundle_that_was_good_last(tmp_path: Path, documented: Any) -> None:
    bundle = tmp_path / "ca.pem"
    good = (
        "# Főtanúsítvány\n".encode()
        + make_certificates(tmp_path / "one", address="127.0.0.1").ca.read_bytes()
    )
    bundle.write_bytes(good)
    settings = read_settings(tmp_path / "none.toml", {"JOBS_CACERTFILE": str(bundle)}).settings
    around = Surroundings(settings.jobs.network)

    def trust(ca: bytes) -> None:
        around.good_ca = ca

    part = CaBundlePart(lambda: bundle, trust)
    part.load().commit()
    assert part.load().changed == ()
    for bad in (b"not a certificate", b"", b"\xff"):
        bundle.write_bytes(bad)
        with pytest.raises(ConfigError) as refused:
            part.load()
        documented("a-changed-file-that-cannot-be-used/2", str(refused.value))
    assert around.read_ca() == good
    (tmp_path / "job").mkdir()
    own = _ca_path(around, tmp_path / "job", None)
    assert own is not None
    assert Path(own).read_bytes() == good


async def serial_shown(port: int) -> int:
    from cryptography import x509

    def ask() -> int:
        pem = ssl.get_server_certificate(("127.0.0.1", port), timeout=20)
        return x509.load_pem_x509_certificate(pem.encode()).serial_number

    return await asyncio.to_thread(ask)


@contextlib.asynccontextmanager
async def served(tls: TlsSettings) -> AsyncIterator[tuple[HttpServer, int]]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    sockets = list(bind("127.0.0.1:0"))
    server = HttpServer(app, tls=tls, new_loop=new_loop)
    task = asyncio.create_task(server.serve(sockets=sockets))
    try:
        yield server, sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


async def test_a_new_certificate_is_shown_to_new_connections_and_a_bad_one_is_not(
    tmp_path: Path,
) -> None:
    one, two = (make_certificates(tmp_path / n, address="127.0.0.1") for n in ("one", "two"))
    shown = tmp_path / "shown"
    shown.symlink_to(one.certificate.parent)
    tls = TlsSettings(True, str(shown / one.certificate.name), str(shown / one.key.name))
    async with served(tls) as (server, port):
        part = CertificatePart(tls, server.show, setting="api.http.tls")
        first = await serial_shown(port)
        assert part.load().changed == ()
        shown.unlink()
        shown.symlink_to(two.certificate.parent)
        loaded = part.load()
        assert loaded.changed == ("api.http.tls",)
        loaded.commit()
        second = await serial_shown(port)
        assert first != second
        two.key.write_bytes(one.key.read_bytes())  # the other's key
        with pytest.raises(ConfigError, match=r"api\.http\.tls: certificate .* cannot be used"):
            part.load()
        assert await serial_shown(port) == second


class Watched:
    """A part that says what it is told to."""

    name, eager = "watched", False

    def __init__(self, path: Path) -> None:
        self.path, self.read, self.taken = path, 0, 0

    def files(self) -> Sequence[Path]:
        return (self.path,)

    def load(self) -> Loaded:
        self.read += 1
        if self.path.read_text() == "bad":
            raise ConfigError("watched: should be good")

        def commit() -> None:
            self.taken += 1

        return Loaded(("watched",), commit)


@contextlib.asynccontextmanager
async def watching(
    *parts: Watched, told: Callable[[str, tuple[str, ...]], None] = lambda *_: None
) -> AsyncIterator[tuple[Reloader, Reloads]]:
    clock = ManualClock()
    reloads = Reloads(clock)
    reloader = Reloader(parts, reloads=reloads, on_changed=told)
    task = asyncio.create_task(reloader.run())
    await asyncio.sleep(LOOK_EVERY_S / 2)
    try:
        yield reloader, reloads
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.looptime
async def test_a_file_is_read_when_two_looks_agree_and_only_then(tmp_path: Path) -> None:
    part = Watched(tmp_path / "file")
    part.path.write_text("one")
    told: list[tuple[str, ...]] = []
    async with watching(part, told=lambda _, changed: told.append(changed)):
        await asyncio.sleep(3 * LOOK_EVERY_S)
        assert part.read == 0
        for number in range(3):  # it is still being written
            part.path.write_text("more" * (number + 2))
            await asyncio.sleep(LOOK_EVERY_S)
        assert part.read == 0
        await asyncio.sleep(2 * LOOK_EVERY_S)
        assert (part.read, part.taken, told) == (1, 1, [("watched",)])
        await asyncio.sleep(3 * LOOK_EVERY_S)
        assert part.read == 1


@pytest.mark.looptime
async def test_a_link_that_leads_elsewhere_is_a_change(tmp_path: Path) -> None:
    for name in ("..one", "..two"):  # as Kubernetes mounts ConfigMaps and Secrets
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("same")
        os.utime(tmp_path / name / "file", (1, 1))
    (tmp_path / "..data").symlink_to("..one")
    part = Watched(tmp_path / "..data" / "file")
    async with watching(part):
        (tmp_path / "new").symlink_to("..two")
        (tmp_path / "new").rename(tmp_path / "..data")
        await asyncio.sleep(3 * LOOK_EVERY_S)
        assert part.taken == 1


@pytest.mark.looptime
async def test_what_cannot_be_used_is_told_until_it_can_and_a_signal_reads_at_once(
    tmp_path: Path,
) -> None:
    part = Watched(tmp_path / "file")
    part.path.write_text("good")
    async with watching(part) as (reloader, reloads):
        began_s = reloads.ended["watched"][1]
        part.path.write_text("bad")
        with structlog.testing.capture_logs() as lines:
            reloader.ask()
            await asyncio.sleep(LOOK_EVERY_S / 10)
        assert [(line["event"], line["part"], line["reason"]) for line in lines] == [
            ("config.not_reloaded", "watched", "watched: should be good")
        ]
        assert reloads.ended["watched"] == (False, began_s)
        part.path.write_text("good again")
        await asyncio.sleep(3 * LOOK_EVERY_S)
        assert reloads.ended["watched"][0]
        assert part.taken == 1


@pytest.mark.looptime
async def test_a_file_whose_rights_alone_change_is_read_again(tmp_path: Path) -> None:
    part = Watched(tmp_path / "file")
    part.path.write_text("same")
    async with watching(part):
        part.path.chmod(0o640)
        await asyncio.sleep(3 * LOOK_EVERY_S)
        assert part.read == 1


class Faulty(Watched):
    """A part with a fault that nobody foresaw, while its file says so."""

    name = "faulty"

    def __init__(self, path: Path, place: str) -> None:
        super().__init__(path)
        self.place = place
        path.write_text("good")

    def fault(self, place: str) -> None:
        if place == self.place and self.path.read_text() == "fault":
            raise LookupError("with what may be a secret")

    def files(self) -> Sequence[Path]:
        self.fault("files")
        return super().files()

    def load(self) -> Loaded:
        self.fault("load")
        loaded = super().load()

        def commit() -> None:
            self.fault("commit")
            loaded.commit()

        return Loaded(("faulty",), commit)


@pytest.mark.looptime
@pytest.mark.parametrize("place", ["files", "load", "commit"])
async def test_an_error_that_nobody_foresaw_is_told_as_a_bad_file_and_reading_goes_on(
    tmp_path: Path, place: str
) -> None:
    faulty, other = Faulty(tmp_path / "faulty", place), Watched(tmp_path / "other")
    other.path.write_text("one")
    async with watching(faulty, other) as (reloader, reloads):
        began = reloads.ended["faulty"]
        faulty.path.write_text("fault")
        other.path.write_text("another")
        with structlog.testing.capture_logs() as lines:
            await asyncio.sleep(10 * LOOK_EVERY_S)
        told = [line for line in lines if line["event"] == "config.not_reloaded"]
        assert [(line["part"], line["exc_info"]) for line in told] == [("faulty", True)]
        assert "LookupError" not in told[0]["reason"]
        assert reloads.ended["faulty"] == (False, began[1])
        assert reloads.failures == {"faulty": 1, "watched": 0}
        assert (faulty.taken, other.taken) == (0, 1), "the other part is read all the same"

        reloader.ask()  # somebody wants to know
        await asyncio.sleep(LOOK_EVERY_S / 10)
        assert reloads.failures["faulty"] == 2

        faulty.path.write_text("good again")
        await asyncio.sleep(3 * LOOK_EVERY_S)
        assert reloads.ended["faulty"][0]
        assert faulty.taken == 1


@pytest.mark.looptime
async def test_a_part_that_fails_at_the_start_is_told_and_read_later(tmp_path: Path) -> None:
    for place in ("files", "load", "commit"):
        part = Faulty(tmp_path / place, place)
        part.eager = True
        part.path.write_text("fault")
        async with watching(part) as (_, reloads):
            assert not reloads.ended["faulty"][0]
            part.path.write_text("good")
            await asyncio.sleep(3 * LOOK_EVERY_S)
            assert reloads.ended["faulty"][0]
            assert part.taken == 1


@pytest.mark.looptime
async def test_a_change_that_cannot_be_told_of_is_in_force_and_reading_goes_on(
    tmp_path: Path,
) -> None:
    part = Watched(tmp_path / "file")
    part.path.write_text("good")

    def fails(*_: object) -> None:
        raise LookupError

    async with watching(part, told=fails) as (_, reloads):
        for number in (1, 2):
            part.path.write_text("good" * (number + 1))
            with structlog.testing.capture_logs() as lines:
                await asyncio.sleep(3 * LOOK_EVERY_S)
            assert [line["event"] for line in lines] == [
                "config.reloaded",
                "config.change_not_told",
            ]
            assert (part.taken, reloads.failures["watched"]) == (number, number)
            assert reloads.ended["watched"][0]


def test_whoever_cannot_take_settings_over_has_nobody_keep_half_of_them(tmp_path: Path) -> None:
    first: list[Settings] = []
    faults = [LookupError("the second part of the service")]

    def apply(settings: Settings) -> None:
        first.append(settings)
        if faults:
            raise faults.pop()

    path = tmp_path / "config.toml"
    path.write_text("[jobs]\nmax_concurrent_jobs = 2\n")
    part = ConfigurationPart(path, {}, read_settings(path, {}), live=LIVE, apply=apply)
    before = part.settings
    path.write_text("[jobs]\nmax_concurrent_jobs = 5\n")
    with pytest.raises(LookupError):
        part.load().commit()
    assert part.settings is before
    assert first[-1] is before
    loaded = part.load()  # it has not been taken over, so it still is a change
    assert loaded.changed == ("jobs.max_concurrent_jobs",)
    loaded.commit()
    assert first[-1].jobs.max_concurrent_jobs == part.settings.jobs.max_concurrent_jobs == 5


async def test_a_certificate_and_a_bundle_that_nobody_took_over_are_changes_still(
    tmp_path: Path,
) -> None:
    one, two = (make_certificates(tmp_path / n, address="127.0.0.1") for n in ("one", "two"))
    asked: list[object] = []

    def use(what: object) -> None:
        asked.append(what)
        if len(asked) % 2:
            raise LookupError

    tls = TlsSettings(True, str(one.certificate), str(one.key))
    certificate = CertificatePart(tls, use, setting="api.http.tls")
    one.certificate.write_bytes(two.certificate.read_bytes())
    one.key.write_bytes(two.key.read_bytes())
    bundle = CaBundlePart(lambda: two.ca, use)
    for part in (certificate, bundle):
        with pytest.raises(LookupError):
            part.load().commit()
        part.load().commit()
        assert part.load().changed == ()
    assert len(asked) == 4


async def test_the_metrics_tell_of_errors_that_nobody_foresaw(start: Any, tmp_path: Path) -> None:
    running = await start()
    reloads = running.offloader.live.reloads
    part = Faulty(tmp_path / "faulty", "load")
    reloader = Reloader([part], reloads=reloads)
    task = asyncio.create_task(reloader.run())
    name = 'calls_offloader_config_{}{{part="faulty"}} {:.1f}\n'.format

    async def told() -> str:
        return str((await running.http.get("/metrics")).text)

    assert name("last_reload_successful", 1) in await told()
    assert name("reload_failures_total", 0) in await told()
    part.path.write_text("fault")
    reloader.ask()
    async with asyncio.timeout(20):
        while reloads.ended["faulty"][0]:
            await asyncio.sleep(0.001)
    assert name("last_reload_successful", 0) in await told()
    assert name("reload_failures_total", 1) in await told()
    assert not task.done()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_a_hangup_before_and_after_files_are_watched_ends_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGHUP)
    seen: list[Any] = []

    def look(*_: object) -> Any:
        seen.append(signal.getsignal(signal.SIGHUP))
        raise ConfigError("enough")

    monkeypatch.setattr("offloader.cli.serve.read_settings", look)
    monkeypatch.setattr("offloader.cli.serve.keep_to_itself", lambda: None)
    try:
        with pytest.raises(ConfigError, match="enough"):
            serve(tmp_path / "none.toml")
        async with reloading(Reloader([], reloads=Reloads(ManualClock()))):
            pass
        seen.append(signal.getsignal(signal.SIGHUP))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert len(seen) == 2
    assert all(callable(handler) for handler in seen), "neither the default, nor ignored by jobs"
