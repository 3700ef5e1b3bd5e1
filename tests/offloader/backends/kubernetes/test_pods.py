"""Which pod a Job has: never one of an earlier Job of the same name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from offloader.backends.kubernetes.mirror import Mirror
from offloader.backends.kubernetes.pods import PodBook


def job(uid: str):
    return {"metadata": {"name": "job-1-salvage-1", "uid": uid, "annotations": {}}}


def pod(uid: str, *, job_uid: str, version: int = 1):
    return {
        "metadata": {
            "name": f"job-1-salvage-1-{uid}",
            "uid": uid,
            "creationTimestamp": "2026-11-21T12:00:00Z",
            "resourceVersion": str(version),
            "labels": {"job_name": "job-1-salvage-1"},
            "ownerReferences": [{"uid": job_uid, "controller": True}],
        }
    }


@pytest.mark.parametrize("gone", [False, True])
def test_a_pod_of_an_earlier_job_of_that_name_tells_nothing_of_the_next(gone: bool) -> None:
    book = PodBook()
    book.changed(pod("a", job_uid="first"), gone)
    assert book.look(job("first")).pod is not None
    assert book.look(job("second")).pod is None
    book.changed(pod("b", job_uid="second"), False)
    found = book.look(job("second")).pod
    assert found is not None
    assert found["metadata"]["uid"] == "b"


def test_the_late_end_of_a_pod_that_was_dropped_is_no_news() -> None:
    heard = []
    mirror = Mirror(
        None, "pods", selector="", changed=lambda thing, gone: heard.append((thing, gone))
    )
    first = pod("a", job_uid="first")
    mirror.put(first)
    mirror.drop(first)
    event = {"type": "DELETED", "object": pod("a", job_uid="first", version=9)}
    mirror._event(json.dumps(event).encode())
    assert [gone for _, gone in heard] == [False]


class Hasty:
    """An API whose watches end at once, as a proxy's may."""

    watches = 0

    async def list(self, *_: Any, **__: Any) -> Any:
        return {"metadata": {"resourceVersion": "1"}, "items": []}

    @asynccontextmanager
    async def stream(self, *_: Any, **__: Any) -> AsyncIterator[AsyncIterator[bytes]]:
        self.watches += 1
        assert self.watches < 100, "it is asked without a pause"
        yield nothing()


async def nothing() -> AsyncIterator[bytes]:
    return
    yield b""


@pytest.mark.looptime
async def test_a_watch_that_ends_at_once_is_begun_again_after_a_pause() -> None:
    api = Hasty()
    mirror = Mirror(api, "pods", selector="")
    task = asyncio.create_task(mirror.run())
    await asyncio.sleep(60)
    await mirror.require_fresh()  # it is no error
    task.cancel()
    await asyncio.wait([task])
    assert api.watches < 60
