"""The child that transcribes a track: its limits, its priority, its end."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from offloader.backends.cpu_priority import POST_CALL
from offloader.worker import transcribing_program
from offloader.worker.transcribing_program import ProgramFailed, TrackProgram


@pytest.fixture
def run(tmp_path: Path):
    """`await run(script)`: as the transcriber's program, with the directory as `sys.argv[2]`."""

    async def run(
        script: str, *, memory_max_bytes: int = 0, on_progress: Callable[[int], None] = print
    ) -> bytes:
        program = TrackProgram(
            [sys.executable, "-c", script],
            variables={"PATH": os.defpath, "MODELS_DIR": "/models"},
            memory_max_bytes=memory_max_bytes,
        )
        return await program.run(tmp_path, pieces=1, on_progress=on_progress)

    return run


async def test_it_knows_only_what_it_is_told_and_comes_after_live_calls(run) -> None:
    script = """
import json, os, sys
assert sys.argv[1] == "track"
told = {"environ": sorted(os.environ), "nice": os.getpriority(os.PRIO_PROCESS, 0)}
while os.getpriority(os.PRIO_PROCESS, 0) == 0: pass
told["nice"] = os.getpriority(os.PRIO_PROCESS, 0)
print(json.dumps({"event": "progress", "stage": "transcribe", "done": 2, "total": 3}))
print("not JSON"); print("x" * 100000)
open(sys.argv[2] + "/result.json", "w").write(json.dumps(told))
"""
    done: list[int] = []
    told = await run(script, on_progress=done.append)
    assert f'"nice": {POST_CALL.nice}'.encode() in told
    assert b"MODELS_DIR" in told
    assert b"HOME" not in told
    assert done == [2]


@pytest.mark.documents("a-track-that-a-worker-cannot-transcribe")
async def test_a_failure_has_its_reason(run, documented) -> None:
    for script in ("raise SystemExit(1)", "import os; os.kill(os.getpid(), 9)"):
        with pytest.raises(ProgramFailed) as failed:
            await run(script)
        documented("a-track-that-a-worker-cannot-transcribe", str(failed.value))
    said = 'print(\'{"event": "track.failed", "reason": "no model"}\'); raise SystemExit(2)'
    with pytest.raises(ProgramFailed, match="no model"):
        await run(said)


@pytest.mark.documents("a-track-that-a-worker-cannot-transcribe/4")
async def test_a_result_beyond_reason_is_none(
    run, documented, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcribing_program, "_MOST_RESULT_BYTES", 8)
    with pytest.raises(ProgramFailed) as failed:
        await run('import sys; open(sys.argv[2] + "/result.json", "w").write("x" * 9)')
    documented("a-track-that-a-worker-cannot-transcribe/4", str(failed.value))


@pytest.mark.documents("a-track-that-a-worker-cannot-transcribe/2")
async def test_who_takes_too_much_memory_is_ended(
    run, documented, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcribing_program, "_MEMORY_CHECK_S", 0.02)
    script = "held = b'x' * (200 << 20); import time; time.sleep(60)"
    with pytest.raises(ProgramFailed) as failed:
        await run(script, memory_max_bytes=100 << 20)
    documented("a-track-that-a-worker-cannot-transcribe/2", str(failed.value))


@pytest.mark.documents("a-track-that-a-worker-cannot-transcribe/3")
async def test_who_takes_too_long_is_ended(
    run, documented, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcribing_program, "_SECONDS_PER_TRACK", 0.1)
    monkeypatch.setattr(transcribing_program, "_SECONDS_PER_PIECE", 0.0)
    with pytest.raises(ProgramFailed) as failed:
        await run("import time; time.sleep(60)")
    documented("a-track-that-a-worker-cannot-transcribe/3", str(failed.value))


async def test_cancelled_it_leaves_no_process(run, tmp_path: Path) -> None:
    script = "import os, sys, time; open(sys.argv[2] + '/pid', 'w').write(str(os.getpid())); "
    running = asyncio.create_task(run(script + "time.sleep(60)"))
    async with asyncio.timeout(20):
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.slow
async def test_the_transcriber_ends_when_its_lifeline_does(tmp_path: Path) -> None:
    fifo = tmp_path / "track.tar"
    os.mkfifo(fifo)  # it waits for its bundle for ever
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "jobs.transcriber", "track", str(tmp_path)),
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None
    process.stdin.close()
    async with asyncio.timeout(20):
        assert await process.wait() == 3
