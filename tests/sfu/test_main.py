"""The process: keep-alive of the WebSocket, limits, start and stop (rtcd.md 1.1, 2.1)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import random
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

import sfu.__main__ as process
from foundation.shutdown import Shutdown
from sfu.http_server import MAX_MESSAGE_BYTES, Timing
from sfu.messages import Close, Hello, Join, Leave, decode, encode
from sfu.settings import SfuSettings, load_settings
from sfu.system_checks import Shortage

KEY = "k" * 32
BASIC = {"Authorization": "Basic " + base64.b64encode(f"plugin:{KEY}".encode()).decode()}


@dataclass
class Served:
    """The process's servers, in this process."""

    port: int
    shutdown: Shutdown

    async def connect(self) -> ClientConnection:
        return await connect(
            f"ws://127.0.0.1:{self.port}/ws",
            additional_headers=BASIC,
            ping_interval=None,
            proxy=None,
            open_timeout=5,
        )


@asynccontextmanager
async def _served(settings: SfuSettings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    shutdown = Shutdown()
    listen = process._listen

    def listen_and_tell(settings: SfuSettings) -> socket.socket:
        listener = listen(settings)
        listening.set_result(listener.getsockname()[1])
        return listener

    @contextmanager
    def on_signals():
        yield shutdown

    monkeypatch.setattr(process, "_listen", listen_and_tell)
    monkeypatch.setattr(process, "shutdown_on_signals", on_signals)
    async with asyncio.timeout(25), asyncio.TaskGroup() as tasks:
        tasks.create_task(process._serve(settings))
        port = await listening
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            body = {"clientID": "plugin", "authKey": KEY}
            assert (await http.post("/register", json=body)).status_code == 201
        yield Served(port, shutdown)
        shutdown.request()


@pytest.fixture
async def serve(tmp_path: Path, monkeypatch) -> AsyncIterator[Callable[..., Awaitable[Served]]]:
    """Serve with other times, or settings changed; a drain that waits for nobody."""
    environ = {
        "RTCD_API_HTTP_LISTENADDRESS": "127.0.0.1:0",
        "RTCD_API_SECURITY_ALLOWSELFREGISTRATION": "true",
        "RTCD_RTC_ICEADDRESSUDP": "127.0.0.1",
        "RTCD_STORE_DATASOURCE": str(tmp_path / "store"),
    }
    defaults = replace(
        load_settings(None, environ),
        ice_port_udp=0,
        ice_port_tcp=0,
        worker_processes=1,  # media in this very process: what is tested here is what is round it
        drain_timeout_s=0.0,
    )
    async with AsyncExitStack() as stack:

        async def start(*, timing: Timing | None = None, **changes: Any) -> Served:
            monkeypatch.setattr(process, "_TIMING", timing or Timing())
            settings = replace(defaults, **changes)
            return await stack.enter_async_context(_served(settings, monkeypatch))

        yield start


def test_the_times_and_the_largest_message_are_those_of_the_contract() -> None:
    times = process._TIMING
    assert (times.ping_interval_s, times.pong_timeout_s) == (10, 20)
    assert (times.read_s, times.write_s, times.idle_s) == (30, 60, 30)
    assert MAX_MESSAGE_BYTES == 1024 * 1024


async def _frames(served: Served, *, answer: bool) -> AsyncIterator[Frame]:
    """All frames that the server sends; pings are answered, or met with data instead."""
    protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{served.port}/ws"))
    request = protocol.connect()
    request.headers.update(BASIC)
    protocol.send_request(request)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    try:
        writer.writelines(protocol.data_to_send())
        while data := await reader.read(65536):
            protocol.receive_data(data)
            for event in protocol.events_received():
                if isinstance(event, Frame):
                    yield event
            answers = protocol.data_to_send()  # the library has answered the pings by itself
            if not answer and protocol.state is State.OPEN:
                protocol.send_binary(b"data")
                answers = protocol.data_to_send()
            writer.writelines(answers)
    finally:
        writer.close()


async def test_a_plugin_that_answers_is_pinged_again_and_again(serve) -> None:
    served = await serve(timing=Timing(ping_interval_s=0.01, pong_timeout_s=5))
    pings = 0
    async with contextlib.aclosing(_frames(served, answer=True)) as frames:
        async for frame in frames:
            assert frame.opcode is not Opcode.CLOSE
            pings += frame.opcode is Opcode.PING
            if pings == 5:
                break
    assert pings == 5


async def test_a_plugin_that_answers_no_ping_is_cut_off_whatever_else_it_sends(serve) -> None:
    served = await serve(timing=Timing(ping_interval_s=0.01, pong_timeout_s=0.1))
    async with contextlib.aclosing(_frames(served, answer=False)) as frames:
        opcodes = [frame.opcode async for frame in frames]
    assert opcodes[-1] is Opcode.CLOSE
    assert sorted(opcodes[:-1]) == [Opcode.BINARY, Opcode.PING]


async def test_a_message_of_more_than_1_mib_ends_its_connection_only(serve) -> None:
    served = await serve()
    async with await served.connect() as greedy, await served.connect() as other:
        for plugin in (greedy, other):
            assert isinstance(decode(await plugin.recv()), Hello)
        await greedy.send(bytes((1 << 20) + 1))
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await greedy.recv()
        assert caught.value.rcvd.code == 1009
        await other.send(bytes(1 << 20))
        await asyncio.wait_for(await other.ping(), 25)


async def test_the_end_of_the_process_ends_its_sessions_and_then_its_connections(serve) -> None:
    served = await serve()
    async with await served.connect() as plugin, asyncio.timeout(25):
        assert isinstance(decode(await plugin.recv()), Hello)
        await plugin.send(encode(Join("call", "user", "s1")))
        await plugin.send(encode(Join("", "user", "refused")))
        assert decode(await plugin.recv()) == Close("refused")  # so the first one is made
        served.shutdown.request()
        assert decode(await plugin.recv()) == Close("s1")
        with pytest.raises(websockets.ConnectionClosed):
            await plugin.recv()


async def test_sessions_may_end_by_themselves_before_the_process_does(serve) -> None:
    """The default of the original: no limit, and who comes meanwhile is served."""
    served = await serve(drain_timeout_s=None)
    async with await served.connect() as plugin, asyncio.timeout(25):
        assert isinstance(decode(await plugin.recv()), Hello)
        await plugin.send(encode(Join("call", "user", "s1")))
        await plugin.send(encode(Join("", "user", "refused")))
        assert decode(await plugin.recv()) == Close("refused")
        served.shutdown.request()
        await asyncio.sleep(0)
        await plugin.send(encode(Join("call", "user", "s2")))
        await plugin.send(encode(Leave("s1")))
        assert decode(await plugin.recv()) == Close("s1")
        await plugin.send(encode(Leave("s2")))
        assert decode(await plugin.recv()) == Close("s2")
        with pytest.raises(websockets.ConnectionClosed):
            await plugin.recv()


async def test_a_second_signal_ends_the_wait_for_sessions(serve) -> None:
    served = await serve(drain_timeout_s=None)
    async with await served.connect() as plugin, asyncio.timeout(25):
        assert isinstance(decode(await plugin.recv()), Hello)
        await plugin.send(encode(Join("call", "user", "s1")))
        await plugin.send(encode(Join("", "user", "refused")))
        assert decode(await plugin.recv()) == Close("refused")
        served.shutdown.request()
        served.shutdown.request()
        assert decode(await plugin.recv()) == Close("s1")


# the real process


def free_udp_port() -> int:
    """One that the settings allow; below the range from which the system takes ports by itself."""
    for _ in range(100):
        port = random.randrange(20_000, 32_000)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


async def start(tmp_path: Path, *arguments: str, **environ: str) -> asyncio.subprocess.Process:
    defaults = {
        "RTCD_API_HTTP_LISTENADDRESS": "127.0.0.1:0",
        "RTCD_RTC_ICEADDRESSUDP": "127.0.0.1",
        "RTCD_RTC_ICEPORTUDP": str(free_udp_port()),
        "RTCD_RTC_ICEPORTTCP": str(free_udp_port()),
        "RTCD_STORE_DATASOURCE": str(tmp_path / "store"),
        "RTCD_RTC_WORKERPROCESSES": "1",
        "RTCD_LOGGER_FILELOCATION": str(tmp_path / "rtcd.log"),
    }
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sfu", *arguments),
        cwd=Path(__file__).parents[2],
        env=os.environ | defaults | environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def ended(sfu: asyncio.subprocess.Process) -> tuple[int | None, str]:
    """Exit code and standard error."""
    try:
        async with asyncio.timeout(25):
            _, text = await sfu.communicate()
    finally:
        if sfu.returncode is None:
            sfu.kill()
    return sfu.returncode, text.decode()


@pytest.mark.parametrize("level", ["info", "stdlog"])
async def test_the_process_says_where_it_listens_and_ends_politely(tmp_path, level: str) -> None:
    sfu = await start(
        *(tmp_path, "--config", str(tmp_path / "none.toml")),
        RTCD_LOGGER_CONSOLEJSON="true",
        RTCD_LOGGER_CONSOLELEVEL=level,
    )
    try:
        async with asyncio.timeout(25):
            async for line in sfu.stdout:
                if json.loads(line)["event"] == "sfu: listening on":
                    break
        limits = await asyncio.to_thread(Path(f"/proc/{sfu.pid}/limits").read_text)
        sfu.send_signal(signal.SIGTERM)
    finally:
        code, text = await ended(sfu)
    assert (code, text) == (0, "")
    assert re.search(r"Max core file size +0 +0 ", limits), "a dump would hold keys and speech"
    lines = (tmp_path / "rtcd.log").read_text().splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert "config.no_file" in events
    assert "store.temporary" in events  # trap 38: clients would be forgotten with /tmp
    assert "sfu: listening on" in events


async def test_a_taken_port_is_named_with_the_setting_that_changes_it(tmp_path) -> None:
    """The words of rtcd.md 3.11 for the media ports."""
    host = "127.0.0.1"
    with (
        socket.create_server((host, 0)) as http,
        socket.create_server((host, free_udp_port())) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        udp.bind((host, free_udp_port()))
        ports = [taken.getsockname()[1] for taken in (http, udp, tcp)]
        processes = [
            await start(tmp_path / setting, **{setting: value})
            for setting, value in (
                ("RTCD_API_HTTP_LISTENADDRESS", f"{host}:{ports[0]}"),
                ("RTCD_RTC_ICEPORTUDP", str(ports[1])),
                ("RTCD_RTC_ICEPORTTCP", str(ports[2])),
            )
        ]
        results = await asyncio.gather(*map(ended, processes))
    for (code, told), port, setting, words in zip(
        results,
        ports,
        ("RTCD_API_HTTP_LISTENADDRESS", "RTCD_RTC_ICEPORTUDP", "RTCD_RTC_ICEPORTTCP"),
        (
            "port ",
            "failed to create UDP connections: failed to listen on udp: ",
            "failed to create TCP listener: ",
        ),
        strict=True,
    ):
        assert code == 1
        assert told.startswith("sfu: failed to start: " + words)
        assert str(port) in told
        assert setting in told
        assert "Traceback" not in told


@pytest.mark.parametrize(
    ("variables", "toml", "event"),
    [
        ({}, None, "config.no_file"),
        ({}, "[rtc]\nspeed = 1\n", "config.unknown_key"),
        ({"RTCD_STORE_DATASOURCE": "/tmp/rtcd_db"}, "", "store.temporary"),
        ({"RTCD_RTC_ICESERVERS": '["turn:t:3478"]'}, "", "turn.not_used"),
    ],
)
def test_what_an_admin_should_know_is_told_once_at_the_start(
    tmp_path: Path, monkeypatch, capsys, variables: dict[str, str], toml: str | None, event: str
) -> None:
    monkeypatch.setattr(process, "shortages", list)
    path = tmp_path / "config.toml"
    if toml is not None:
        path.write_text(toml)
    quiet = {"RTCD_STORE_DATASOURCE": "/srv/clients"}
    process._tell(load_settings(path, quiet | variables), path)
    (line,) = capsys.readouterr().out.splitlines()
    assert event in line


def test_each_limit_that_is_too_low_is_one_line_with_its_command(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    low = [Shortage("net.core.rmem_max", 1, 2, "sysctl -w …"), Shortage("files", 1, 2, "ulimit …")]
    monkeypatch.setattr(process, "shortages", lambda: low)
    (tmp_path / "config.toml").write_text("")
    path = tmp_path / "config.toml"
    process._tell(load_settings(path, {"RTCD_STORE_DATASOURCE": "/srv/clients"}), path)
    lines = capsys.readouterr().out.splitlines()
    assert [shortage.command in line for shortage, line in zip(low, lines, strict=True)] == [
        *(True, True),
    ]


def test_a_setting_that_cannot_be_used_is_told_in_one_line_with_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["sfu", "-config", str(tmp_path / "none.toml")])
    monkeypatch.setenv("RTCD_RTC_ICEPORTUDP", "22")
    assert process.main() == 1
    text = "invalid ICEPortUDP value: 22 is not in allowed range [80, 49151]"
    assert capsys.readouterr().err == f"sfu: failed to start: {text}\n"
