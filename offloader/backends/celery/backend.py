"""Jobs on many hosts: a launch goes through a broker to exactly one worker, everything else to its door.

Queues and membership are Celery's work. Who owns a job is in its stored workload; a job whose workload was
not stored is found by asking all workers (docs/celery.md).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Final

from foundation.clock import Clock, SystemClock
from foundation.logs import get_logger
from offloader.backends.base import Artifact, LaunchRequest, Observation, Phase, Places, Rescued
from offloader.backends.celery.access import Access
from offloader.backends.celery.board import Launch, LaunchBoard
from offloader.backends.celery.broker import Broker
from offloader.backends.celery.doors import Connect, Doors
from offloader.backends.celery.membership import Membership
from offloader.backends.celery.messages import LaunchOrder
from offloader.backends.celery.options import CeleryOptions
from offloader.backends.celery.reference import BACKEND, Reference
from offloader.backends.celery.whereabouts import NotSaid, Whereabouts
from offloader.backends.remote.client import DoorUnreachable, RemoteBackend, trusted
from offloader.backends.remote.wire import is_door_key
from offloader.errors import BackendError, FilesOutOfReach, LaunchFailed
from offloader.models import JobType, Workload
from offloader.settings import JobsSettings
from offloader.store.secret_key import Cipher

_SETTLE_S: Final = 15.0
"""A launch waits so long for what became of it, once a worker has it; with the wait for a place and for the
claim it stays inside the plugin's minute."""

log = get_logger()


class CeleryBackend:
    """See `Backend`."""

    name = BACKEND
    ends_with_service = False

    def __init__(
        self,
        options: CeleryOptions,
        *,
        cipher: Cipher,
        broker: Broker | None = None,
        connect: Connect | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Tests pass their own `broker`, `clock`, and what `connect`s to the door of a URL.

        Raises:
            BackendError: jobs.ca_cert_file is of no use.
        """
        self.board = LaunchBoard()
        """Where workers claim what is launched here: by the routes of `api/launches.py`."""
        self._options = options
        self._settings = options.celery
        self._cipher = cipher
        self._broker = broker or Broker(
            options.celery, cipher=cipher, ca_cert_file=options.ca_cert_file
        )
        self._members = Membership(self._broker.cards, labels=options.celery.labels)
        self._trusted: ssl.SSLContext | None = None
        if connect is None:
            self._trusted = trusted(options.ca_cert_file)
            connect = partial(RemoteBackend, cipher=cipher, tls=self._trusted)
        self._doors = Doors(connect, self._members.heard)
        self._where = Whereabouts(self.board, self._members, self._doors, clock or SystemClock())
        self._access = Access(self._members, self._where)

    def retune(self, jobs: JobsSettings) -> None:
        """Nothing of it: jobs are launched as each worker's own settings say."""

    def trust(self, ca: bytes) -> None:
        """The content of jobs.ca_cert_file: whom workers' doors are trusted by, too, from now on."""
        if self._trusted is not None:
            self._trusted.load_verify_locations(cadata=ca.decode("ascii", "ignore"))

    def opens(self, token: str) -> bool:
        """Whether `token` is the door key of service and workers."""
        return is_door_key(self._cipher, token)

    async def prepare(self, runners: Sequence[str]) -> None:
        await self._members.watched()
        cards = self._members.live()
        results = await asyncio.gather(
            *(self._remote(card.url).prepare(runners) for card in cards), return_exceptions=True
        )
        failures: list[BackendError] = []
        for card, result in zip(cards, results, strict=True):
            if isinstance(result, BackendError):
                log.warning("worker.not_prepared", worker=card.name, error=str(result))
                failures.append(result)
            elif isinstance(result, BaseException):
                raise result
        if failures and len(failures) == len(cards):
            raise failures[0]

    async def launch(self, request: LaunchRequest) -> Workload:
        order = LaunchOrder.of(request, claim_url=self._settings.own_url)
        queue = self._options.queue_of(request.job_type)
        wait_s = self._settings.claim_wait_s
        self._members.begin()
        with self.board.open(request.job_id) as launch:
            sealed = order.sealed(self._cipher, request.job_id)
            try:
                await self._broker.publish(request.job_id, sealed, queue=queue)
            except BackendError as error:
                if not launch.worker:
                    raise LaunchFailed(str(error)) from error
            if await launch.claimed(within_s=wait_s):
                await launch.settled(within_s=_SETTLE_S)
        # From here on nobody is given the job any more.
        if launch.worker:
            return self._launched(request.job_id, launch)
        await self._members.watched()
        why = self._members.obstacle() or self._takers(request.job_type)
        raise LaunchFailed(f"no worker took the job within {wait_s:g} s ({queue}): {why}")

    async def poll(self, workload: Workload) -> Observation:
        self._members.begin()
        reference = Reference.of(workload)
        door, local = self._where.door(reference), reference.local
        try:
            local = await self._where.local(reference)
            if local is None:
                return self._where.unsettled(reference)
            return await door.look(local)
        except NotSaid:
            return Observation(Phase.STARTING)
        except DoorUnreachable as error:
            await self._members.watched()
            last = None if local is None else door.last(local)
            return self._where.unreachable(reference, last, error)

    async def stop(self, workload: Workload, *, grace_s: float) -> None:
        reference, local = await self._access.known(workload)
        door = self._where.door(reference)
        try:
            await door.backend.stop(local, grace_s=grace_s)
        finally:
            door.changed()

    def logs(self, workload: Workload, *, tail_bytes: int | None = None) -> AsyncIterator[bytes]:
        return self._access.stream(
            workload, lambda door, local: door.logs(local, tail_bytes=tail_bytes)
        )

    def follow(self, workload: Workload) -> AsyncIterator[bytes]:
        return self._access.stream(workload, lambda door, local: door.follow(local))

    async def artifacts(self, workload: Workload) -> Sequence[Artifact]:
        reference, local = await self._access.known(workload)
        return await self._where.door(reference).backend.artifacts(local)

    def read_artifact(
        self, workload: Workload, name: str, *, start: int = 0
    ) -> AsyncIterator[bytes]:
        return self._access.stream(
            workload, lambda door, local: door.read_artifact(local, name, start=start)
        )

    async def remove(self, workload: Workload) -> None:
        reference = Reference.of(workload)
        self._members.begin()
        try:
            local = await self._where.local(reference)
            if local is not None:
                door = self._where.door(reference)
                await self._where.sound(reference, local)
                try:
                    await door.backend.remove(local)
                finally:
                    door.changed()
        except DoorUnreachable as error:
            await self._members.watched()
            if not self._where.is_lost(reference):
                raise
            self._where.forget(reference.job_id)
            # If it ever comes back, it has a workload of no job, which is swept (orphans.py).
            raise FilesOutOfReach(str(error)) from error
        self._where.forget(reference.job_id)

    async def erase(self, workload: Workload) -> None:
        reference, local = await self._access.known(workload)
        await self._where.sound(reference, local)
        await self._where.door(reference).backend.erase(local)

    async def salvage(
        self, workload: Workload, *, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        return await self._access.begin_on_files(
            workload,
            lambda door, local: door.salvage(local, job_type=job_type, variables=variables),
        )

    async def retranscribe(
        self, workload: Workload, *, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        return await self._access.begin_on_files(
            workload,
            lambda door, local: door.retranscribe(local, job_type=job_type, variables=variables),
        )

    async def rescue(
        self, workload: Workload, *, job_type: JobType, result: str, variables: Mapping[str, str]
    ) -> Rescued:
        """On its own worker, if that is there, else on the idlest that takes such jobs."""
        reference = Reference.of(workload)
        await self._members.watched()
        url = self._members.url_of(reference.worker, reference.url)
        cards = sorted(
            self._members.takers(job_type),
            key=lambda card: (card.url != url, card.recording + card.transcribing - card.slots),
        )
        if not cards:
            raise LaunchFailed(self._members.obstacle() or "no worker takes such jobs now")
        [card, *_] = cards
        door = self._doors.at(card.url)
        try:
            made = await door.backend.rescue(
                reference.local,
                job_id=reference.job_id,
                job_type=job_type,
                result=result,
                variables=variables,
            )
        except DoorUnreachable as error:
            raise LaunchFailed(str(error)) from error
        finally:
            door.changed()
        here = Reference(reference.job_id, card.name, card.url, made.workload)
        return Rescued(here.workload(), here.with_local(made.attempt).workload())

    async def lower(self, workload: Workload) -> None:
        reference, local = await self._access.known(workload)
        await self._where.door(reference).backend.lower(local)

    async def place(self) -> str:
        """Every replica reaches every worker."""
        return f"{BACKEND}/{self._settings.queue_prefix}"

    async def places(self) -> Places:
        await self._members.watched()
        if self._members.fault and not self._members.live():
            raise BackendError(self._members.fault)
        return self._members.places()

    async def workers(self) -> Mapping[str, bool]:
        await self._members.watched()
        return self._members.workers()

    async def check_usable(self) -> None:
        await self._members.watched()
        if obstacle := self._members.fault or self._members.obstacle():
            raise BackendError(obstacle)

    async def free_disk_bytes(self) -> int | None:
        """Of all workers together, as live jobs' needs are added up too."""
        await self._members.watched()
        known = [
            card.free_disk_bytes
            for card in self._members.live()
            if card.free_disk_bytes is not None and not card.draining
        ]
        return sum(known) if known else None

    async def adopt(self) -> Mapping[str, Workload]:
        """Of all live workers: one of them that does not say what it has may have just what is looked for."""
        await self._members.watched()
        await self._doors.close_unused()
        if self._members.fault and not self._members.live():
            raise BackendError(self._members.fault)
        cards = self._members.live()
        results = await asyncio.gather(
            *(self._remote(card.url).adopt() for card in cards), return_exceptions=True
        )
        adopted: dict[str, Workload] = {}
        for card, found in zip(cards, results, strict=True):
            if isinstance(found, BackendError):
                raise BackendError(
                    f"worker {card.name} does not say what it has: {found}"
                ) from found
            if isinstance(found, BaseException):
                raise found
            for job_id, local in found.items():
                adopted[job_id] = Reference(job_id, card.name, card.url, local).workload()
        return adopted

    async def aclose(self) -> None:
        await self._members.aclose()
        await self._doors.aclose()
        await self._broker.aclose()

    def _launched(self, job_id: str, launch: Launch) -> Workload:
        """A worker has it; what it calls it may come later."""
        match launch.outcome:
            case str(error):
                raise LaunchFailed(f"worker {launch.worker}: {error}")
            case local:
                log.info(
                    "job.taken", job_id=job_id, worker=launch.worker, settled=local is not None
                )
                return Reference(job_id, launch.worker, launch.url, local).workload()

    def _takers(self, job_type: JobType) -> str:
        takers = [card.name for card in self._members.takers(job_type)]
        return f"{', '.join(takers)} could have, but did not; see the logs of these workers"

    def _remote(self, url: str) -> RemoteBackend:
        return self._doors.at(url).backend
