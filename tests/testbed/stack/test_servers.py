from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from testbed.processes import StartFailed
from testbed.servers import Servers, read_line

NOBODY = "http://127.0.0.1:9/version"
SLEEP = "import time; time.sleep(60)"
TELL = """
import time
print('{"event": "ready"}', flush=True)
time.sleep(60)
"""


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Servers]:
    servers = Servers(tmp_path / "logs")
    yield servers
    await servers.take_down(hurry=None)
    assert servers.left_over() == {}


async def start(servers: Servers, code: str, *, talks: bool = False) -> None:
    await servers.start("sfu", [sys.executable, "-c", code], {}, talks=talks)


@pytest.mark.documents("something-of-the-demo-does-not-start")
async def test_a_server_that_stays_silent_is_a_failed_start(
    servers: Servers, documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start(servers, SLEEP)
    monkeypatch.setattr("testbed.servers._READY_TIMEOUT_S", 0.01)
    with pytest.raises(StartFailed) as silent:
        await servers.answers("sfu", NOBODY)
    documented("something-of-the-demo-does-not-start", str(silent.value))


@pytest.mark.documents("something-of-the-demo-does-not-start/2")
async def test_a_server_that_ends_at_once_is_a_failed_start(
    servers: Servers, documented: Any
) -> None:
    await start(servers, "raise SystemExit(3)")
    with pytest.raises(StartFailed) as failed:
        await servers.answers("sfu", NOBODY)
    documented("something-of-the-demo-does-not-start/2", str(failed.value))


async def test_a_talker_is_ready_when_it_says_so_and_not_when_it_says_nothing_more(
    servers: Servers, tmp_path: Path
) -> None:
    await start(servers, TELL, talks=True)
    await servers.says("sfu", "ready")
    with pytest.raises(StartFailed, match=r"sfu was not ready within 0\.01 s") as silent:
        await servers.says("sfu", "jobs_ready", limit_s=0.01)
    assert silent.value.log == tmp_path / "logs" / "sfu.log"


async def test_a_talker_that_ends_without_a_word_is_a_failed_start(servers: Servers) -> None:
    await start(servers, "", talks=True)
    with pytest.raises(StartFailed, match="sfu ended with exit code 0 before it was ready"):
        await servers.says("sfu", "ready")


@pytest.mark.parametrize(
    ("line", "record"), [(b'{"event":"x"}\n', {"event": "x"}), (b"oops\n", None), (b"[1]\n", None)]
)
def test_lines_that_are_no_object_are_passed_over(line: bytes, record: object) -> None:
    assert read_line(line) == record
