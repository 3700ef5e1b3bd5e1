"""Of a lost job that lives and those who rescue it, one posts: in every order, whoever dies in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from foundation.clock import Clock
from foundation.copies.contents import mark_of
from foundation.copies.journal import Change, Entry, key_of
from foundation.copies.stores import ObjectExists, StoreError
from jobs.copies.fence import TAKE_OVER_S, Fence, Verdict, write_identity

pytestmark = pytest.mark.looptime
JOB = "j" * 26


class Site:
    """Takes posts, after a while."""

    def __init__(self) -> None:
        self.posts: list[str] = []

    async def is_posted(self, file_id: str) -> bool:
        return file_id in self.posts

    async def post(self, file_id: str, *, takes_s: float = 0.0) -> None:
        await asyncio.sleep(takes_s)
        self.posts.append(file_id)


@pytest.fixture
def site() -> Site:
    return Site()


class PlayedStore:
    """A store in memory: no thread, for which virtual time would not wait."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.away = False

    async def put(self, key: str, data: bytes) -> None:
        self.objects[key] = data

    async def create(self, key: str, data: bytes) -> None:
        if key in self.objects:
            raise ObjectExists(key)
        self.objects[key] = data

    async def get(self, key: str) -> bytes:
        return self.objects[key]

    async def start_of(self, key: str, length: int) -> bytes:
        return self.objects[key][:length]

    async def names(self, prefix: str) -> list[str]:
        if self.away:
            raise StoreError("away")
        below = f"{prefix}/"
        return sorted(key.removeprefix(below) for key in self.objects if key.startswith(below))

    async def remove(self, prefix: str) -> None:
        below = f"{prefix}/"
        self.objects = {k: v for k, v in self.objects.items() if not k.startswith(below)}


@pytest.fixture
async def store() -> PlayedStore:
    store = PlayedStore()
    await store.put(key_of(JOB, 1), Entry([Change("job.json", 0, b"{}")]).encode())
    return store


MakeFence = Callable[..., Awaitable[Fence]]


@pytest.fixture
def fence_on(store: PlayedStore, tmp_path: Path, loop_clock: Clock) -> MakeFence:
    """Makes the fence of a host's directory: `await fence_on("a")`, `restored=True` of one that rescues."""

    async def make(host: str, *, restored: bool = False) -> Fence:
        directory = tmp_path / host / JOB
        directory.mkdir(parents=True, exist_ok=True)
        if restored:
            write_identity(directory, restored_from=await mark_of(store, JOB))
        return Fence(store, directory, clock=loop_clock)

    return make


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def test_who_is_alone_posts_without_waiting_as_often_as_it_has_to(
    fence_on: MakeFence, site: Site
) -> None:
    fence = await fence_on("a")
    for _ in range(3):
        assert await fence.enter("file-a", is_posted=site.is_posted) is Verdict.POST
    assert now_s() == 0


async def test_another_process_on_the_same_directory_is_the_same_one(
    fence_on: MakeFence, site: Site
) -> None:
    await (await fence_on("a")).enter("file-a", is_posted=site.is_posted)
    again = await fence_on("a")
    assert await again.enter("file-a", is_posted=site.is_posted) is Verdict.POST
    assert now_s() == 0


async def test_a_job_that_has_posted_keeps_its_rescue_from_doing_so(
    fence_on: MakeFence, site: Site
) -> None:
    job, rescue = await fence_on("a"), await fence_on("b", restored=True)
    await job.enter("file-a", is_posted=site.is_posted)
    entering = asyncio.create_task(rescue.enter("file-b", is_posted=site.is_posted))
    await site.post("file-a", takes_s=140)  # the answer may take that long
    assert await entering is Verdict.IS_POSTED


async def test_a_rescue_that_has_posted_keeps_the_job_from_doing_so_and_its_files_stay(
    fence_on: MakeFence, site: Site
) -> None:
    job, rescue = await fence_on("a"), await fence_on("b", restored=True)
    assert await rescue.enter("file-b", is_posted=site.is_posted) is Verdict.POST
    await site.post("file-b")
    assert await job.enter("file-a", is_posted=site.is_posted) is Verdict.OTHER_IS_POSTED


async def test_a_claim_whose_owner_died_is_taken_over_when_no_post_of_it_can_come_any_more(
    fence_on: MakeFence, site: Site
) -> None:
    await (await fence_on("a")).enter("file-a", is_posted=site.is_posted)
    rescue = await fence_on("b", restored=True)
    assert await rescue.enter("file-b", is_posted=site.is_posted) is Verdict.POST
    assert now_s() >= TAKE_OVER_S


async def test_whoever_was_taken_over_does_not_post_without_asking_again(
    fence_on: MakeFence, site: Site
) -> None:
    job, rescue = await fence_on("a"), await fence_on("b", restored=True)
    await job.enter("file-a", is_posted=site.is_posted)
    assert await rescue.enter("file-b", is_posted=site.is_posted) is Verdict.POST
    assert await job.is_another_s()
    entering = asyncio.create_task(job.enter("file-a", is_posted=site.is_posted))
    await site.post("file-b", takes_s=100)
    assert await entering is Verdict.OTHER_IS_POSTED


async def test_the_files_of_every_owner_before_are_asked_for(
    fence_on: MakeFence, site: Site
) -> None:
    for number, host in enumerate("abc"):
        fence = await fence_on(host, restored=bool(number))
        assert await fence.enter(f"file-{host}", is_posted=site.is_posted) is Verdict.POST
    await site.post("file-a")
    last = await fence_on("d", restored=True)
    assert await last.enter("file-d", is_posted=site.is_posted) is Verdict.IS_POSTED


async def test_a_rescue_that_died_while_it_waited_waits_again(
    fence_on: MakeFence, site: Site
) -> None:
    await (await fence_on("a")).enter("file-a", is_posted=site.is_posted)
    rescue = await fence_on("b", restored=True)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await rescue.enter("file-b", is_posted=site.is_posted)
    began_s = now_s()
    await (await fence_on("b")).enter("file-b", is_posted=site.is_posted)
    assert now_s() - began_s >= TAKE_OVER_S


async def test_a_copy_that_the_job_has_removed_meanwhile_means_that_it_has_posted(
    fence_on: MakeFence, store: PlayedStore, site: Site
) -> None:
    job, rescue = await fence_on("a"), await fence_on("b", restored=True)
    await job.enter("file-a", is_posted=site.is_posted)
    await store.remove(JOB)
    await job.leave()
    assert await store.names(f"{JOB}.publisher") == []
    artifacts = Entry([Change("artifacts/poster.jpg", 0, b"jpg")]).encode()
    await store.put(key_of(JOB, 1), artifacts)
    assert await rescue.enter("file-b", is_posted=site.is_posted) is Verdict.IS_POSTED


async def test_a_rescue_leaves_its_claim_behind_for_a_job_that_may_live(
    fence_on: MakeFence, store: PlayedStore, site: Site
) -> None:
    rescue = await fence_on("b", restored=True)
    await rescue.enter("file-b", is_posted=site.is_posted)
    await site.post("file-b")
    await store.remove(JOB)
    await rescue.leave()
    job = await fence_on("a")
    assert await job.enter("file-a", is_posted=site.is_posted) is Verdict.OTHER_IS_POSTED


@pytest.mark.parametrize("late_s", [0.0, 50.0, 170.0, 200.0])
@pytest.mark.parametrize("first", ["job", "rescue"])
async def test_however_late_the_second_one_comes_there_is_one_post(
    fence_on: MakeFence, site: Site, first: str, late_s: float
) -> None:
    async def publish(fence: Fence, file_id: str, *, after_s: float) -> None:
        await asyncio.sleep(after_s)
        if await fence.enter(file_id, is_posted=site.is_posted) is Verdict.POST:
            await site.post(file_id, takes_s=130)

    await asyncio.gather(
        publish(await fence_on("a"), "file-a", after_s=0.0 if first == "job" else late_s),
        publish(
            await fence_on("b", restored=True), "file-b", after_s=late_s if first == "job" else 0.0
        ),
    )
    assert len(site.posts) == 1


async def test_a_look_that_took_too_long_is_taken_again(
    fence_on: MakeFence, store: PlayedStore, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    fence = await fence_on("a")
    await fence.enter("file-a", is_posted=site.is_posted)
    looks = 0

    async def slow(prefix: str) -> list[str]:
        nonlocal looks
        looks += 1
        await asyncio.sleep(15 if looks == 1 else 0)
        return await PlayedStore.names(store, prefix)

    monkeypatch.setattr(store, "names", slow)
    assert await fence.enter("file-a", is_posted=site.is_posted) is Verdict.POST
    assert looks == 2


@pytest.mark.documents("nobody-knows-who-else-publishes/2")
async def test_whoever_is_never_the_fastest_does_not_post(
    fence_on: MakeFence, site: Site, documented, monkeypatch: pytest.MonkeyPatch
) -> None:
    fence = await fence_on("a")

    async def slower(file_id: str) -> None:
        return None

    monkeypatch.setattr(fence, "_claimed", slower)
    with pytest.raises(StoreError) as unsettled:
        await fence.enter("file-a", is_posted=site.is_posted)
    documented("nobody-knows-who-else-publishes/2", str(unsettled.value))


async def test_without_its_store_nobody_posts(
    fence_on: MakeFence, store: PlayedStore, site: Site
) -> None:
    store.away = True
    with pytest.raises(StoreError, match="away"):
        await (await fence_on("a")).enter("file-a", is_posted=site.is_posted)


async def test_a_server_that_lets_everybody_write_is_seen_through(
    fence_on: MakeFence, store: PlayedStore, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without conditional writes the last one wins; whoever reads another's claim back has lost."""
    rescue = await fence_on("b", restored=True)
    overtaken = False

    async def overtaking(key: str, data: bytes) -> None:
        nonlocal overtaken
        await store.put(key, data)
        if not overtaken:
            overtaken = True
            await store.put(key, data.replace(b'"file-a"', b'"file-b"'))

    monkeypatch.setattr(store, "create", overtaking)
    job = await fence_on("a")
    entering = asyncio.create_task(job.enter("file-a", is_posted=site.is_posted))
    assert await entering is Verdict.POST
    newest = (await store.names(f"{JOB}.publisher"))[-1]
    assert b"file-a" in await store.get(f"{JOB}.publisher/{newest}")
    assert await rescue.is_another_s()
