"""What the service knows of the cluster: its Jobs and their pods, kept true by two watches."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from foundation.clock import Clock
from offloader.backends.base import Observation, Phase
from offloader.backends.kubernetes.api import JOBS, PODS, KubernetesApi
from offloader.backends.kubernetes.mirror import Mirror, Thing
from offloader.backends.kubernetes.observation import end_note, noted, observe
from offloader.backends.kubernetes.options import (
    INSTANCE_LABEL,
    NAME_LABEL,
    NOTE,
    KubernetesOptions,
    Reference,
)
from offloader.backends.kubernetes.pods import PodBook
from offloader.errors import BackendError


class ClusterView:
    """One per backend; `watched` before anything else is asked. All raise BackendError."""

    def __init__(self, api: KubernetesApi, options: KubernetesOptions, clock: Clock) -> None:
        self._api = api
        self._options = options
        self._clock = clock
        self._book = PodBook()
        self._jobs = Mirror(api, JOBS, selector=options.selector)
        self._pods = Mirror(api, PODS, selector=options.selector, changed=self._book.changed)
        self._watching: list[asyncio.Task[None]] = []
        self._closed = False

    async def watched(self) -> None:
        """Begin to watch with the first need of it; then wait until the copies can be trusted."""
        if self._closed:
            raise BackendError("the kubernetes backend is closed")
        if not self._watching:
            self._watching = [
                asyncio.create_task(self._jobs.run(), name="watch jobs"),
                asyncio.create_task(self._pods.run(), name="watch pods"),
            ]
        await self._jobs.require_fresh()
        await self._pods.require_fresh()

    def known_job(self, name: str) -> Thing | None:
        """A Job as far as it was seen."""
        return self._jobs.get(name)

    async def job(self, name: str) -> Thing | None:
        """A Job of this installation; that there is none is asked of the server itself."""
        known = self._jobs.get(name)
        if known is not None:
            return known
        found = await self._api.get(JOBS, name)
        if found is None or found["metadata"].get("deletionTimestamp"):
            return None
        marks = found["metadata"].get("labels") or {}
        if marks.get(INSTANCE_LABEL) != self._options.kubernetes.instance:
            return None
        self._jobs.put(found)
        return self._jobs.get(name)

    def pod(self, name: str) -> Thing | None:
        """The newest pod of a Job that is there; also what is left of one whose Job somebody deleted."""
        job = self._jobs.get(name)
        return self._book.living(name, job_uid=job["metadata"]["uid"] if job else "")

    def references(self) -> Iterator[Reference]:
        """Of all Jobs, salvages included."""
        for job in self._jobs.all():
            with suppress(KeyError, ValueError, StopIteration):
                yield Reference.of_job(job)

    def seen(self, job: Thing) -> Observation:
        """What is known of a workload; nothing is said about its files."""
        timeout_s = self._options.kubernetes.start_timeout_s
        return observe(self._book.look(job), now=self.now(), start_timeout_s=timeout_s)

    def has_ended(self, job: Thing | None) -> bool:
        return job is None or self.seen(job).phase in (Phase.EXITED, Phase.LOST)

    async def make_sure(self, job: Thing) -> None:
        """Before it counts as ended without a pod: the watches are not in step, so a pod that tells more
        may be there, and not seen yet."""
        if self._book.look(job).pod is not None or end_note(job) is not None:
            return
        if self.has_ended(job):
            name = job["metadata"]["name"]
            selector = f"{self._options.selector},{NAME_LABEL}={name}"
            answer = await self._api.list(PODS, selector=selector)
            for pod in answer.get("items") or []:
                self._pods.put(pod)

    async def write_down(self, job: Thing, end: Observation) -> None:
        """How it ended, before its pod goes; one that never ran shall not begin any more."""
        if end_note(job) is not None:
            return
        changes: dict[str, Any] = {"metadata": {"annotations": {NOTE: noted(end)}}}
        if end.exit_code is None and end.phase is Phase.EXITED:
            changes["spec"] = {"suspend": True}
        await self.change(job["metadata"]["name"], changes)

    async def change(self, name: str, changes: dict[str, Any]) -> None:
        """Patch a Job; one that is gone is left alone."""
        patched = await self._api.patch(JOBS, name, changes)
        if patched is not None:
            self._jobs.put(patched)

    def took(self, job: Thing) -> None:
        """A Job that was just made."""
        self._jobs.put(job)

    async def end_pod(self, pod: Thing, *, grace_s: int) -> None:
        """Have a pod deleted; it may go on for `grace_s` seconds."""
        uid = pod["metadata"]["uid"]
        options = {"gracePeriodSeconds": grace_s, "preconditions": {"uid": uid}}
        deleted = await self._api.delete(PODS, pod["metadata"]["name"], options)
        if deleted is not None and deleted.get("kind") == "Pod":
            self._pods.put(deleted)

    def forget(self, name: str) -> None:
        """The Job is deleted: late events must not bring it or its pods back."""
        job = self._jobs.get(name)
        if job is not None:
            self._jobs.drop(job)
        for pod in self._book.forget(name):
            self._pods.drop(pod)

    def now(self) -> datetime:
        """By the server's clock once it has answered: with its times the service's own may not agree."""
        return self._api.server_now() or self._clock.utc_now().astimezone(UTC)

    async def aclose(self) -> None:
        self._closed = True
        for task in self._watching:
            task.cancel()
        if self._watching:
            await asyncio.wait(self._watching)
        self._watching.clear()
