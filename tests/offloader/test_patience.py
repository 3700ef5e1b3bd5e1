from __future__ import annotations

import asyncio

import pytest

from offloader.patience import Patience

pytestmark = pytest.mark.looptime


async def test_what_takes_long_goes_on_without_whoever_waited_for_it() -> None:
    patience, done = Patience(3.0), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def slow() -> None:
        await asyncio.sleep(10)
        done.set()

    began_s = loop.time()
    await patience.run(slow())
    assert loop.time() - began_s == pytest.approx(3.0)
    assert patience.busy
    await done.wait()
    await asyncio.sleep(0)
    assert not patience.busy


async def test_a_failure_is_raised_at_once_or_if_it_comes_late_by_the_next() -> None:
    patience = Patience(3.0)

    async def fails(after_s: float) -> None:
        await asyncio.sleep(after_s)
        raise ValueError(f"after {after_s:g} s")

    with pytest.raises(ValueError, match="after 1 s"):
        await patience.run(fails(1))
    await patience.run(fails(5))
    await asyncio.sleep(5)
    with pytest.raises(ValueError, match="after 5 s"):
        await patience.run(asyncio.sleep(0))
    await patience.run(asyncio.sleep(0))


async def test_work_that_was_cancelled_cancels_nobody_who_waits_for_it() -> None:
    patience = Patience(3.0)

    async def cancelled() -> None:
        raise asyncio.CancelledError

    await patience.run(cancelled())
    assert not patience.busy


async def test_nothing_goes_on_after_the_end() -> None:
    patience, cancelled = Patience(1.0), asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    await patience.run(endless())
    await patience.aclose()
    assert cancelled.is_set()
    assert not patience.busy
    await patience.aclose()
