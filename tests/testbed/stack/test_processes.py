"""Nothing gets away: real small processes, orphans and stubborn ones included."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from testbed.processes import Family, describe_exit, process_state

SLEEPER = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"
# A grandchild in a session of its own, whose parent ends at once: an orphan.
ORPHAN = (
    "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', "
    f"{SLEEPER!r}], start_new_session=True, stdout=subprocess.PIPE); p.stdout.readline(); "
    "print(p.pid, flush=True)"
)


async def _start(family: Family, tmp_path: Path, code: str) -> asyncio.subprocess.Process:
    return await family.start(
        [sys.executable, "-c", code],
        environment=dict(os.environ),
        log=tmp_path / "process.log",
        talks=True,
    )


async def _first_line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


async def test_a_process_that_obeys_ends_politely(tmp_path: Path) -> None:
    family = Family()
    process = await _start(family, tmp_path, SLEEPER)
    await _first_line(process)
    assert process.pid in family.alive()
    assert await family.take_down(grace_s=5) == []
    assert family.alive() == {}
    assert process.returncode == -signal.SIGTERM


async def test_a_stubborn_process_is_killed_and_named(tmp_path: Path) -> None:
    family = Family()
    process = await _start(family, tmp_path, STUBBORN)
    await _first_line(process)
    killed = await family.take_down(grace_s=0.2)
    assert len(killed) == 1
    assert "python" in killed[0]
    assert process.returncode == -signal.SIGKILL


async def test_hurry_does_not_wait_for_the_grace(tmp_path: Path) -> None:
    family, hurry = Family(), asyncio.Event()
    await _first_line(await _start(family, tmp_path, STUBBORN))
    hurry.set()
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    await family.take_down(grace_s=20, hurry=hurry)
    assert loop.time() - began_s < 20


async def test_an_orphan_in_its_own_session_is_found_and_taken_down(tmp_path: Path) -> None:
    family = Family()
    parent = await _start(family, tmp_path, ORPHAN)
    orphan = int(await _first_line(parent))
    await parent.wait()
    assert orphan in family.alive()
    await family.take_down(grace_s=5)
    assert process_state(orphan) in ("", "Z", "X")
    assert family.alive() == {}


async def test_processes_that_were_there_before_are_left_alone(tmp_path: Path) -> None:
    first = Family()
    earlier = await _start(first, tmp_path, SLEEPER)
    await _first_line(earlier)
    second = Family()
    assert await second.take_down(grace_s=1) == []
    assert earlier.returncode is None
    await first.take_down(grace_s=5)


async def test_standard_error_goes_to_the_log(tmp_path: Path) -> None:
    family = Family()
    process = await _start(family, tmp_path, "import sys; sys.stderr.write('oh dear')")
    await process.wait()
    await family.take_down(grace_s=1)
    assert (tmp_path / "process.log").read_text() == "oh dear"


@pytest.mark.parametrize(
    ("returncode", "text"), [(-9, "was killed by SIGKILL"), (3, "ended with exit code 3")]
)
def test_an_end_is_described(returncode: int, text: str) -> None:
    assert describe_exit(returncode) == text
