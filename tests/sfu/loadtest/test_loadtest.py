"""The load test against the bundled SFU, each in processes of its own: what is counted adds up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import pytest
from websockets.asyncio.client import connect

from sfu.loadtest.plan import LoadPlan
from sfu.loadtest.run import RunError, RunOptions, run_load
from sfu.loadtest.signaling import basic_authorization, register
from sfu.messages import Leave, encode
from testbed.ports import Ports

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

KEY = "k" * 32
PlanMaker = Callable[..., LoadPlan]


Server = tuple[str, subprocess.Popen[bytes]]


@contextmanager
def served(directory: Path) -> Iterator[Server]:
    ports = Ports.free()
    process = subprocess.Popen(
        [sys.executable, "-m", "sfu"],
        env={
            **os.environ,
            "RTCD_API_HTTP_LISTENADDRESS": f"127.0.0.1:{ports.sfu}",
            "RTCD_API_SECURITY_ALLOWSELFREGISTRATION": "true",
            "RTCD_RTC_ICEADDRESSUDP": "127.0.0.1",
            "RTCD_RTC_ICEADDRESSTCP": "127.0.0.1",
            "RTCD_RTC_ICEPORTUDP": str(ports.media),
            "RTCD_RTC_ICEPORTTCP": str(ports.media),
            "RTCD_STORE_DATASOURCE": str(directory),
            "RTCD_LOGGER_ENABLEFILE": "false",
            "RTCD_LOGGER_CONSOLELEVEL": "ERROR",
        },
        stdin=subprocess.DEVNULL,
    )
    try:
        while process.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", ports.sfu), timeout=1).close()
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{ports.sfu}", process
    finally:
        process.terminate()
        try:
            process.wait(25)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def sfu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("sfu")) as server:
        yield server


@pytest.fixture
def make_plan(sfu: Server) -> Iterator[PlanMaker]:
    def make(**changes: Any) -> LoadPlan:
        defaults: dict[str, Any] = {
            "url": sfu[0],
            "client_id": "plugin",
            "auth_key": KEY,
            "call_prefix": f"call{secrets.token_hex(4)}",
            "session_prefix": secrets.token_hex(10),
            "join_rate": 20.0,
            "duration_s": 1.0,
        }
        return LoadPlan(**(defaults | changes))

    yield make
    assert not workers()


def workers() -> list[int]:
    """Processes of a load test that this process has started."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"sfu.loadtest" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def ignore(text: str) -> None:
    """Nobody watches."""


async def test_every_packet_reaches_every_other_participant_once(make_plan: PlanMaker) -> None:
    plan = make_plan(calls=2, users_per_call=3, unmuted=2, screen_sharing=1)
    result = await run_load(plan, RunOptions(processes=2), ignore)

    assert result["settled"]
    assert result["participants"] == {
        "planned": 6,
        "joined": 6,
        "failures": {},
        "messages_refused": {},
    }
    media = result["media"]
    voice, screen = media["kinds"]["voice"], media["kinds"]["screen"]
    assert (voice["tracks"], voice["subscriptions"]) == (4, 8)
    assert (screen["tracks"], screen["subscriptions"]) == (1, 2)
    # On a busy machine a stall is skipped, or caught up from before the measured second.
    assert 0 < voice["sent"] <= 1.25 * 4 * 50
    assert 0 < screen["sent"] <= 1.25 * 1_600_000 / 8 / 1200
    for kind in (voice, screen):
        assert kind["received"] == kind["expected"] == 2 * kind["sent"]
    for wrong in ("lost", "duplicates", "reordered", "never_heard", "misdelivered", "foreign"):
        assert media[wrong] == 0, wrong
    assert result["delay_ms"]["count"] == media["received"]
    timings = result["timings_ms"]
    assert timings["join"]["count"] == 6
    assert timings["track_start"]["count"] == 10
    assert timings["renegotiation"]["count"] == 5
    assert result["server"]["cpu_s"] >= 0
    assert json.dumps(result)


async def test_offers_over_the_websocket_do_as_well(make_plan: PlanMaker) -> None:
    plan = make_plan(users_per_call=3, unmuted=1, dc_signaling=False)
    media = (await run_load(plan, RunOptions(), ignore))["media"]
    assert media["received"] == media["expected"] > 0


async def test_lost_video_is_repeated_and_lost_voice_is_not(make_plan: PlanMaker) -> None:
    plan = make_plan(users_per_call=3, unmuted=1, screen_sharing=1, loss_percent=20.0)
    media = (await run_load(plan, RunOptions(), ignore))["media"]
    voice, screen = media["kinds"]["voice"], media["kinds"]["screen"]
    assert 0 < voice["lost"] / voice["expected"] < 0.6  # few were sent where the machine is busy
    assert screen["lost"] / screen["expected"] < 0.1
    assert screen["reordered"] > 0


@pytest.mark.documents("a-load-test-that-finds-no-sfu/4")
async def test_a_wrong_key_is_told_before_anybody_joins(
    make_plan: PlanMaker, sfu: Server, documented: Any
) -> None:
    await register(sfu[0], "plugin", KEY)
    with pytest.raises(RunError) as refused:
        await run_load(make_plan(auth_key="w" * 32), RunOptions(), ignore)
    documented("a-load-test-that-finds-no-sfu/4", str(refused.value))


@pytest.mark.documents("a-load-test-that-finds-no-sfu")
async def test_an_sfu_that_is_not_there_is_told(make_plan: PlanMaker, documented: Any) -> None:
    plan = make_plan(url=f"http://127.0.0.1:{Ports.free().sfu}")
    with pytest.raises(RunError) as away:
        await run_load(plan, RunOptions(), ignore)
    documented("a-load-test-that-finds-no-sfu", str(away.value))


@pytest.mark.documents("a-load-test-that-loses-its-sfu")
async def test_an_sfu_that_dies_ends_the_run(
    make_plan: PlanMaker, tmp_path: Path, documented: Any
) -> None:
    with served(tmp_path) as (url, process):

        def die(text: str) -> None:
            if text.startswith("measuring"):
                process.kill()

        plan = make_plan(url=url, users_per_call=2, unmuted=1, duration_s=20.0)
        with pytest.raises(RunError) as lost:
            await run_load(plan, RunOptions(processes=2), die)
    documented("a-load-test-that-loses-its-sfu", str(lost.value))


async def test_who_is_thrown_out_is_a_failure_with_its_reason(
    make_plan: PlanMaker, sfu: Server
) -> None:
    plan = make_plan(users_per_call=3, unmuted=1, duration_s=1.5)
    thrown_out: list[asyncio.Task[None]] = []

    async def throw_out() -> None:
        headers = {"Authorization": basic_authorization("plugin", KEY)}
        url = sfu[0].replace("http", "ws") + "/ws"
        async with connect(url, additional_headers=headers, proxy=None) as socket:
            await socket.recv()
            await socket.send(encode(Leave(f"{plan.session_prefix}000002")))

    def at_the_measuring(text: str) -> None:
        if text.startswith("measuring"):
            thrown_out.append(asyncio.ensure_future(throw_out()))

    result = await run_load(plan, RunOptions(), at_the_measuring)
    await asyncio.gather(*thrown_out)
    (reason,) = result["participants"]["failures"].items()
    # What comes first: DTLS says goodbye, or the WebSocket tells.
    assert reason in (
        ("the other side closed the connection", 1),
        ("the SFU closed the session while in the call", 1),
    )
    assert 0 < result["media"]["lost"] < result["media"]["expected"]


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_call_of_the_load_test_can_really_be_recorded(tmp_path: Path) -> None:
    with served(tmp_path) as (url, _):
        plan = LoadPlan(
            url=url,
            client_id="plugin",
            auth_key=KEY,
            call_prefix="call",
            session_prefix=secrets.token_hex(10),
            users_per_call=3,
            unmuted=1,
            duration_s=4.0,
        )
        result = await run_load(plan, RunOptions(recordings=1), ignore)
        assert result["media"]["received"] == result["media"]["expected"] > 0
        (recording,) = result["recordings"]
        with av.open(recording["file"]) as file:
            assert file.duration / 1e6 >= 4
            assert {stream.type for stream in file.streams} == {"audio", "video"}
        assert recording["cpu_s"].keys() == {"recorder", "transcriber"}
        shutil.rmtree(Path(recording["file"]).parent.parent)
