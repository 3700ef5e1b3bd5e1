"""The network steps against real processes: the bundled SFU, the stand-in, coturn; packets really dropped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from callclient.client import CallClient, CallClientConfig
from callclient.events import (
    CallEnded,
    Joined,
    MediaLost,
    SignalingLost,
    TrackAdded,
    TrackEnded,
)
from offloader.doctor.network import media_probe, sfu, websocket
from offloader.doctor.network.ice_servers import ICE_SERVERS
from offloader.doctor.network.rtcd import RtcdUrl, session_at
from offloader.doctor.network.sfu import SFU
from offloader.doctor.network.steps import NETWORK_STEPS
from offloader.doctor.network.upload import UPLOAD
from offloader.doctor.network.way import trusting
from testbed.browser.meeting import Meeting
from testbed.ports import HOST, Ports
from testbed.processes import Family

Look = Callable[..., Awaitable[Any]]
pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]
_SECRET = "a secret of this test"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is on loopback: what does not answer in a second does not answer."""
    monkeypatch.setattr(websocket, "_HELLO_S", 2.0)
    monkeypatch.setattr(media_probe, "_PATIENCE_S", 1.0)
    monkeypatch.setattr(media_probe, "_CONNECT_S", 1.0)


def sfu_url(meeting: Meeting) -> str:
    return f"http://{HOST}:{meeting.settings.ports.sfu}"


async def ask(url: str, method: str = "GET", **options: Any) -> Any:
    async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
        response = await http.request(method, url, **options)
        response.raise_for_status()
        return response


async def test_a_good_site_has_no_failure_and_nothing_stays_behind(
    meeting: Meeting, look: Look
) -> None:
    options = {
        "site_url": meeting.url,
        "token": meeting.world["bot"]["token"],
        "channel": meeting.world["channel_id"],
        "rtcd_url": sfu_url(meeting),
    }
    verdicts: dict[str, str] = {}
    for step in NETWORK_STEPS:
        verdicts |= (await look(step, **options)).verdicts
    assert {"hello_came", "sfu_udp_answers", "sfu_tcp_answers", "upload_works"} <= set(verdicts)
    assert not {"failure", "warning"} & set(verdicts.values()), verdicts
    # What was sent as an upload was not kept, and nothing was posted.
    uploads = (await ask(f"{meeting.url}/testbed/uploads")).json()
    assert [upload["file_offset"] for upload in uploads] == [0]
    posts = (await ask(f"{meeting.url}/testbed/posts/{meeting.world['channel_id']}")).json()
    assert posts == []
    assert not (await meeting.call())["active"]
    metrics = (await ask(f"{sfu_url(meeting)}/metrics")).text
    left = [line for line in metrics.splitlines() if line.startswith("rtcd_rtc_sessions_total{")]
    assert all(line.endswith(" 0.0") for line in left), left


async def test_a_persons_token_tells_of_the_plugin_and_may_upload_elsewhere_only(
    meeting: Meeting, look: Look
) -> None:
    token = meeting.world["users"]["alice"]["token"]
    for step in NETWORK_STEPS:
        found = await look(step, site_url=meeting.url, token=token)
        assert not {"failure", "warning"} & set(found.verdicts.values()), found.verdicts


async def test_a_token_that_is_none_is_told_by_every_step_that_needs_it(
    meeting: Meeting, look: Look
) -> None:
    found: set[str] = set()
    for step in NETWORK_STEPS:
        options = {"site_url": meeting.url, "token": "x" * 26, "channel": "c" * 26}
        found |= set((await look(step, **options)).codes)
    assert {"hello_token_refused", "token_refused", "upload_token_refused"} <= found


async def test_a_call_that_goes_on_does_not_notice(meeting: Meeting, look: Look) -> None:
    """Alice talks and Bob listens, while every step is gone through with the bot's token."""
    channel, users = meeting.world["channel_id"], meeting.world["users"]
    async with contextlib.AsyncExitStack() as stack:
        alice, bob = [
            await stack.enter_async_context(caller(meeting, users[name]["token"]))
            for name in ("alice", "bob")
        ]
        talking = asyncio.create_task(talk(alice.client))
        stack.callback(talking.cancel)
        await bob.hears(10)
        before = (await meeting.call())["sessions"]
        options = {"site_url": meeting.url, "token": meeting.world["bot"]["token"]}
        for step in NETWORK_STEPS:
            await look(step, **options, channel=channel, rtcd_url=sfu_url(meeting))
        await bob.hears(10)
        assert [s["session_id"] for s in (await meeting.call())["sessions"]] == [
            s["session_id"] for s in before
        ]
        told = {type(event) for person in (alice, bob) for event in person.events}
        assert not told & {SignalingLost, MediaLost, CallEnded, TrackEnded}
    assert (await ask(f"{meeting.url}/testbed/captions")).json() == []


class Caller:
    """Somebody in the call, and what he is told."""

    def __init__(self, client: CallClient) -> None:
        self.client = client
        self.events: list[Any] = []
        self._frames = 0
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        async for event in self.client.events():
            self.events.append(event)
            self._changed.set()
            if isinstance(event, TrackAdded):
                self._tasks.add(asyncio.create_task(self._count(event.track)))

    async def joined(self) -> None:
        while not any(isinstance(event, Joined) for event in self.events):
            self._changed.clear()
            await self._changed.wait()

    async def hears(self, frames: int) -> None:
        """So many more."""
        wanted = self._frames + frames
        while self._frames < wanted:
            self._changed.clear()
            await self._changed.wait()

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _count(self, track: Any) -> None:
        async for _ in track.frames():
            self._frames += 1
            self._changed.set()


@asynccontextmanager
async def caller(meeting: Meeting, token: str) -> AsyncIterator[Caller]:
    client = CallClient(
        CallClientConfig(
            site_url=meeting.url, auth_token=token, channel_id=meeting.world["channel_id"]
        )
    )
    made = Caller(client)
    running = asyncio.create_task(client.run())
    listening = asyncio.create_task(made.listen())
    try:
        await made.joined()
        yield made
    finally:
        await client.leave()
        await asyncio.wait([running, listening])
        await made.end()


async def talk(client: CallClient) -> None:
    voice = await client.publish_voice()
    await client.set_muted(False)
    timestamp = 0
    while True:
        voice.send(bytes([0xF8, 0xFF, 0xFE]), rtp_timestamp=timestamp, marker=False)
        timestamp += 960
        await asyncio.sleep(0.02)


async def test_the_session_at_the_sfu_is_its_own_and_its_client_goes_with_it(
    meeting: Meeting,
) -> None:
    url = RtcdUrl.parse(sfu_url(meeting))
    async with session_at(url, HOST, ca=trusting(None)) as announced:
        assert {c.transport for c in announced.candidates} == {"udp", "tcp"}
        assert not (await meeting.call())["active"]
        metrics = (await ask(f"{sfu_url(meeting)}/metrics")).text
        groups = [line for line in metrics.splitlines() if 'groupID="offloader-doctor-' in line]
        assert groups
    async with httpx.AsyncClient(trust_env=False) as http:
        login = {"clientID": groups[0].split('groupID="')[1].split('"')[0], "authKey": "k" * 32}
        assert "not found" in (await http.post(f"{sfu_url(meeting)}/login", json=login)).text


async def test_candidates_that_trickle_as_from_the_reference_are_checked_too(
    look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = Ports.free()
    options = ["--port", str(ports.sfu), "--media-port", str(ports.media)]
    family = Family()
    try:
        process = await family.start(
            [sys.executable, "-m", "testbed.rtcd_double", *options],
            environment={**os.environ},
            log=tmp_path / "log",
        )
        async with asyncio.timeout(15):
            while process.returncode is None:
                with contextlib.suppress(httpx.TransportError):
                    await ask(f"http://{HOST}:{ports.sfu}/version")
                    break
                await asyncio.sleep(0.05)
        found = await look(SFU, rtcd_url=f"http://{HOST}:{ports.sfu}")
        assert found.verdicts == {"sfu_udp_answers": "ok", "sfu_tcp_answers": "ok"}
        monkeypatch.setattr(sfu, "_FAR_MS", 0.0)
        found = await look(SFU, rtcd_url=f"http://{HOST}:{ports.sfu}")
        assert found.verdicts["sfu_far"] == "warning"
    finally:
        await family.take_down(grace_s=3)


async def test_a_firewall_that_drops_udp_is_a_warning(
    meeting: Meeting, look: Look, cut: Callable[..., AbstractAsyncContextManager[None]]
) -> None:
    async with cut("udp", meeting.settings.ports.media):
        found = await look(SFU, rtcd_url=sfu_url(meeting))
    assert found.verdicts == {"sfu_udp_blocked": "warning"}


async def test_a_firewall_that_drops_tcp_is_only_told(
    meeting: Meeting, look: Look, cut: Callable[..., AbstractAsyncContextManager[None]]
) -> None:
    async with cut("tcp", meeting.settings.ports.media):
        found = await look(SFU, rtcd_url=sfu_url(meeting))
    assert found.verdicts == {"sfu_udp_answers": "ok", "sfu_tcp_blocked": "note"}


async def test_a_firewall_that_drops_both_is_a_failure(
    meeting: Meeting, look: Look, cut: Callable[..., AbstractAsyncContextManager[None]]
) -> None:
    port = meeting.settings.ports.media
    async with cut("udp", port), cut("tcp", port):
        found = await look(SFU, rtcd_url=sfu_url(meeting))
    assert found.verdicts == {"sfu_unreachable": "failure"}
    assert f"{HOST}:{port}/udp" in found.all[0].value


async def test_packets_that_get_lost_are_counted(
    meeting: Meeting, look: Look, cut: Callable[..., AbstractAsyncContextManager[None]]
) -> None:
    every_other = ("-m", "statistic", "--mode", "nth", "--every", "4", "--packet", "0")
    async with cut("udp", meeting.settings.ports.media, *every_other):
        found = await look(SFU, rtcd_url=sfu_url(meeting))
    assert found.verdicts["sfu_loses"] == "warning"
    candidate = found["sfu_loses"].data["candidates"][0]
    assert candidate["answered"] < candidate["sent"] == 20


async def test_a_turn_server_gives_an_address_and_gets_it_back(
    meeting: Meeting, look: Look, coturn: int, closed_port: int, tmp_path: Path
) -> None:
    urls = [f"turn:{HOST}:{coturn}?transport={link}" for link in ("udp", "tcp")]
    urls += [f"stun:{HOST}:{coturn}", f"stun:{HOST}:{closed_port}"]
    entries = [{"urls": [url]} for url in urls]
    options = {"site_url": meeting.url, "token": meeting.world["bot"]["token"]}
    try:
        await _configure(meeting, ICEServersConfigs=entries, TURNStaticAuthSecret=_SECRET)
        found = await look(ICE_SERVERS, **options)
        by_url = {finding.what: finding.code for finding in found.all}
        assert by_url == dict(
            zip(urls, ("turn_relays", "turn_relays", "stun_answers", "stun_silent"), strict=True)
        )
        log = await asyncio.to_thread((tmp_path / "coturn.log").read_text)
        assert log.count("lifetime=0") == 2
        await _configure(meeting, ICEServersConfigs=entries[:1], TURNStaticAuthSecret="another")
        assert (await look(ICE_SERVERS, **options)).verdicts == {"turn_refuses": "failure"}
        gone = [{"urls": [f"turn:{HOST}:{closed_port}"]}]
        await _configure(meeting, ICEServersConfigs=gone, TURNStaticAuthSecret=_SECRET)
        assert (await look(ICE_SERVERS, **options)).verdicts == {"turn_silent": "failure"}
    finally:
        await _configure(meeting, ICEServersConfigs=[])


async def _configure(meeting: Meeting, **values: Any) -> None:
    await ask(f"{meeting.url}/testbed/config", "POST", json=values)


async def test_a_small_max_file_size_is_found(meeting: Meeting, look: Look, tmp_path: Path) -> None:
    ports = Ports.free()
    family = Family()
    data = tmp_path / "stand-in"
    arguments = ["--listen", f"{HOST}:{ports.plugin}", "--rtcd-url", sfu_url(meeting)]
    arguments += ["--data-dir", str(data), "--max-file-size-bytes", str(1 << 20)]
    arguments += ["--job-service-url", f"http://{HOST}:{ports.offloader}"]
    try:
        process = await family.start(
            [sys.executable, "-m", "testbed.plugin", *arguments],
            environment={**os.environ},
            log=tmp_path / "log",
            talks=True,
        )
        assert process.stdout is not None
        await process.stdout.readline()  # it listens
        world = (data / "world.json").read_text()
        token = world.split('"bot"')[1].split('"token": "')[1].split('"')[0]
        found = await look(UPLOAD, site_url=f"http://{HOST}:{ports.plugin}", token=token)
        assert found.verdicts["max_file_size_too_small"] == "failure"
    finally:
        await family.take_down(grace_s=3)


@pytest_asyncio.fixture(loop_scope="module")
async def cut(
    engine_missing: Callable[[str, str], None],
) -> Callable[..., AbstractAsyncContextManager[None]]:
    """`async with cut("udp", port):` what goes to that port of loopback is dropped, or of it what `matching`
    says."""
    probe = ("INPUT", "-i", "lo", "-p", "udp", "--dport", "9", "-j", "ACCEPT")
    try:
        usable = await _iptables("-I", *probe)
    except FileNotFoundError:
        usable = False
    if not usable:
        engine_missing("iptables", "not on PATH, or not allowed")
    await _iptables("-D", *probe)

    @asynccontextmanager
    async def dropped(transport: str, port: int, *matching: str) -> AsyncIterator[None]:
        rule = ("INPUT", "-i", "lo", "-p", transport, "--dport", str(port), *matching, "-j", "DROP")
        assert await _iptables("-I", *rule)
        try:
            yield
        finally:
            await _iptables("-D", *rule)

    return dropped


async def _iptables(*arguments: str) -> bool:
    process = await asyncio.create_subprocess_exec(
        "iptables", "-w", *arguments, stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait() == 0


@pytest_asyncio.fixture(loop_scope="module")
async def coturn(
    tmp_path: Path, closed_port: int, engine_missing: Callable[[str, str], None]
) -> AsyncIterator[int]:
    """The port of a real TURN server."""
    program = shutil.which("turnserver")
    if program is None:
        engine_missing("coturn", "no turnserver on PATH: apt-get install coturn")
    port = Ports.free().media
    options = {
        "listening-ip": HOST,
        "relay-ip": HOST,
        "listening-port": port,
        "realm": "test",
        "static-auth-secret": _SECRET,
        "log-file": tmp_path / "coturn.log",
        "pidfile": tmp_path / "coturn.pid",
        "userdb": tmp_path / "coturn.db",
    }
    process = await asyncio.create_subprocess_exec(
        str(program),
        "-n",
        *(f"--{name}={value}" for name, value in options.items()),
        *("--use-auth-secret", "--no-dtls", "--no-tls", "--no-cli", "--simple-log", "--verbose"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await asyncio.open_connection(HOST, port)
                    break
                except OSError:
                    await asyncio.sleep(0.05)
        writer.close()
        yield port
    finally:
        process.terminate()
        await process.wait()
