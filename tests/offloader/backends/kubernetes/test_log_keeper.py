"""How long is waited for logs, and what happens to those that cannot be kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from offloader.backends.kubernetes import log_keeper
from offloader.backends.kubernetes.log_keeper import LogKeeper

POD = {"metadata": {"name": "pod"}, "status": {}}


class Silent:
    """An API whose logs never come."""

    @asynccontextmanager
    async def stream(self, *_: Any, **__: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        await asyncio.Event().wait()
        raise AssertionError
        yield


@pytest.fixture
async def keeper() -> AsyncIterator[LogKeeper]:
    made = LogKeeper(Silent(), max_bytes=1 << 20, pod_of=lambda _: POD)
    yield made
    await made.aclose()


@pytest.mark.looptime
async def test_the_rest_of_an_ended_jobs_log_is_waited_for_five_seconds_in_all(
    keeper: LogKeeper, tmp_path: Path
) -> None:
    loop = asyncio.get_running_loop()
    keeper.keep("job", tmp_path)
    began_s = loop.time()
    assert keeper.is_busy("job")
    assert not keeper.is_busy("another")
    await asyncio.sleep(2)
    assert keeper.is_busy("job")
    await keeper.complete("job")
    assert loop.time() - began_s == pytest.approx(5)
    assert not keeper.is_busy("job")
    await keeper.complete("job")
    assert loop.time() - began_s == pytest.approx(5)


async def test_a_log_that_cannot_be_kept_is_complained_about_once_a_minute(
    keeper: LogKeeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()

    async def tried() -> int:
        with structlog.testing.capture_logs() as lines:
            for _ in range(3):
                keeper.keep("job", tmp_path / "file" / "folder")
                await asyncio.gather(*keeper._tasks.values())
        return len(lines)

    assert await tried() == 1
    assert await tried() == 0
    now_s = asyncio.get_running_loop().time
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now_s() + 60)
    assert log_keeper._AFTER_ERROR_S == 60
    assert await tried() == 1


async def test_only_so_many_logs_are_followed_at_a_time_but_those_of_ended_jobs_are_always_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_keeper, "_MOST_FOLLOWED", 2)
    ended = {"name": "job", "state": {"terminated": {"exitCode": 0}}}
    pods = {
        "over": {"metadata": {"name": "p"}, "status": {"containerStatuses": [ended]}},
    }
    keeper = LogKeeper(Silent(), max_bytes=1 << 20, pod_of=lambda name: pods.get(name, POD))
    for name in ("one", "two", "three", "over"):
        keeper.keep(name, tmp_path / name)
    assert set(keeper._tasks) == {"one", "two", "over"}
    await keeper.forget("one")
    await keeper.forget("over")
    keeper.keep("three", tmp_path / "three")
    assert set(keeper._tasks) == {"two", "three"}
    await keeper.aclose()


class Told:
    """An API whose logs hold one line."""

    @asynccontextmanager
    async def stream(self, *_: Any, **__: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"2026-01-01T00:00:00Z the end\n"

        yield chunks()


async def test_an_ended_jobs_log_that_another_replica_leaves_half_kept_is_waited_for(
    keeper: LogKeeper, tmp_path: Path
) -> None:
    """The other one had its folder while the job ended, and ends itself before it has all of it."""
    pod: dict[str, Any] = {"metadata": {"name": "p"}, "status": {}}
    second = LogKeeper(Told(), max_bytes=1 << 20, pod_of=lambda _: pod)
    keeper.keep("job", tmp_path)
    async with asyncio.timeout(20):
        while not (tmp_path / "job.log").exists():
            await asyncio.sleep(0.01)
    second.keep("job", tmp_path)
    await asyncio.gather(*second._tasks.values())
    container = {"name": "job", "state": {"terminated": {"exitCode": 0}}}
    pod["status"] = {"containerStatuses": [container]}
    assert second.is_busy("job")
    await keeper.aclose()
    async with asyncio.timeout(20):
        while second.is_busy("job"):
            second.keep("job", tmp_path)
            await asyncio.sleep(0.01)
    assert (tmp_path / "job.log").read_text() == "the end\n"
    await second.aclose()
