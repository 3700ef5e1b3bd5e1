"""Where jobs wait for a place: a short while, well inside the plugin's minute.

Places that become free go to the clients in rotation, and of each client's jobs to the one that came first. A
job that needs no place of its own, since its call has one, never waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from enum import Enum, auto
from functools import partial
from typing import Final

from foundation.clock import Clock
from foundation.logs import get_logger
from offloader.admission import AdmissionPolicy
from offloader.backends.base import Places
from offloader.client_limits import ClientLimits
from offloader.errors import (
    BackendError,
    CapacityReached,
    ClientIsFull,
    CreationFailed,
    UnpublishedTooMuch,
)
from offloader.models import Job
from offloader.occupancy import Occupancy
from offloader.store.base import JobStore, Lease
from offloader.waiting_line import Waiter, WaitingLine

_LOOK_EVERY_S: Final = 1.0
"""Places are also made by other replicas, which tell nobody."""

_NOWHERE: Final = "no host takes jobs now: the service's /readyz says why"

log = get_logger()


class _Answer(Enum):
    IN = auto()
    """Or refused for another reason than room: it waits no more."""
    NOT_NOW = auto()
    """Its client has what it may have; others may get in."""
    FULL = auto()


class Entrance:
    """One per process. Lives on the event loop."""

    def __init__(
        self,
        *,
        store: JobStore,
        policy: AdmissionPolicy,
        free_disk: Callable[[], Awaitable[int | None]],
        clock: Clock,
        wait_s: float,
        lease: Lease | None = None,
        places: Callable[[], Awaitable[Places | None]] | None = None,
        client_limits: ClientLimits | None = None,
    ) -> None:
        """`lease`: who watches over the jobs that get in; None: nobody else could. `places`: for what the
        backend's hosts have room now; None: for what the policy says. `client_limits`: what one client may
        take of it."""
        self.policy = policy
        self.client_limits = client_limits or ClientLimits()
        self._store = store
        self._free_disk = free_disk
        self._clock = clock
        self._wait_s = wait_s
        self._lease = lease
        self._places = places
        self._occupancy = Occupancy()
        self._room = asyncio.Event()
        self._line = WaitingLine()
        self._doorman: asyncio.Task[None] | None = None
        """Looks after those who wait; there is one while somebody does."""
        self._full = False
        """There was no place when the doorman looked last."""
        self._on_waited: list[Callable[[float, bool], None]] = []
        self.closed = False
        """Nobody gets in: the service drains, or is about to end."""
        self._ending = False

    async def policy_now(self) -> AdmissionPolicy:
        """The policy, and what there is room for.

        Raises:
            BackendError: the backend cannot tell.
        """
        places = None if self._places is None else await self._places()
        if places is None:
            return self.policy
        return replace(
            self.policy,
            max_calls=min(self.policy.max_calls, places.calls),
            post_call_slots=self.policy.post_call_slots * places.hosts,
        )

    async def shown_policy(self) -> AdmissionPolicy:
        """As `policy_now`; without places where the backend cannot tell."""
        try:
            return await self.policy_now()
        except BackendError:
            return replace(self.policy, max_calls=0)

    def retune(
        self, policy: AdmissionPolicy, *, client_limits: ClientLimits, wait_s: float
    ) -> None:
        """Other limits from now on, also for who waits; nobody inside has to leave."""
        self.policy = policy
        self.client_limits = client_limits
        self._wait_s = wait_s
        self.room_made()

    def room_made(self) -> None:
        """A job has given up its place: it is looked who gets it."""
        self._full = False
        self._room.set()

    def close(self, *, for_good: bool = False) -> None:
        """Refuse everybody, also those who wait. `for_good`: the service ends, nothing reopens it."""
        self.closed = True
        self._ending = self._ending or for_good
        self._room.set()

    def reopen(self) -> bool:
        """Let jobs in again; False when it is closed for good."""
        self.closed = self._ending
        return not self.closed

    def on_waited(self, observer: Callable[[float, bool], None]) -> None:
        """Call `observer(seconds, admitted)` for every job that asked."""
        self._on_waited.append(observer)

    async def aclose(self) -> None:
        """Refuse everybody for good, and wait until they are told."""
        self.close(for_good=True)
        if self._doorman is not None:
            await asyncio.wait({self._doorman})

    async def enter(self, job: Job) -> None:
        """Reserve a place for `job`, waiting for one if need be.

        Raises:
            CapacityReached: none was free in time; ClientIsFull: nor may its client have one more.
            DiskTooFull, ClientDiskFull: no room for what it may write.
            UnpublishedTooMuch: too many results wait already.
            CreationFailed: the service is about to end.
        """
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            await self._enter(job, until_s=began_s + self._wait_s)
        except CreationFailed:
            self._tell(loop.time() - began_s, admitted=False)
            raise
        self._tell(loop.time() - began_s, admitted=True)

    async def _enter(self, job: Job, *, until_s: float) -> None:
        try:
            return await self._try(job, without_place=bool(self._line))
        except CapacityReached as error:
            if self._wait_s <= 0:
                raise
            refusal = error
        self.client_limits.check_queue(self._line.count(job.client_id), job)
        log.info("admission.waiting", job_id=job.id, at_most_s=self._wait_s)
        outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = Waiter(job, until_s, outcome, refusal)
        self._line.add(waiter)
        if self._doorman is None or self._doorman.done():
            self._doorman = asyncio.create_task(self._serve(), name="doorman")
        elif not self._full:
            self._room.set()  # only others' own limits may keep them waiting
        try:
            await outcome
        finally:
            self._line.remove(waiter)

    async def _serve(self) -> None:
        """Let in who waits, as there is room; until nobody waits."""
        loop = asyncio.get_running_loop()
        try:
            while self._line:
                self._room.clear()
                while await self._look():
                    pass
                for waiter in self._line:
                    if waiter.until_s <= loop.time():
                        self._dismiss(waiter, waiter.refusal)
                if self._line:
                    left_s = min(waiter.until_s for waiter in self._line) - loop.time()
                    await self._wait_for_room(min(max(left_s, 0.0), _LOOK_EVERY_S))
        finally:
            for waiter in self._line:
                waiter.outcome.cancel()

    async def _wait_for_room(self, at_most_s: float) -> None:
        # Only the waiting is cut short, never a reservation: its outcome must be known.
        try:
            async with asyncio.timeout(at_most_s):
                await self._room.wait()
        except TimeoutError:
            return

    async def _look(self) -> bool:
        """One job of every client; whether it makes sense to go on with their next ones."""
        anybody = False
        for waiter in self._line.heads():
            answer = await self._hand_in(waiter)
            self._full = answer is _Answer.FULL
            if self._full:
                return False
            anybody = anybody or answer is _Answer.IN
        return anybody

    async def _hand_in(self, waiter: Waiter) -> _Answer:
        if waiter.outcome.done():
            self._line.remove(waiter)
            return _Answer.IN
        try:
            await self._try(waiter.job)
        except CapacityReached as refusal:
            waiter.refusal = refusal
            return _Answer.NOT_NOW if isinstance(refusal, ClientIsFull) else _Answer.FULL
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits is told it
            self._dismiss(waiter, error)
            return _Answer.IN
        self._line.served(waiter)
        if not waiter.outcome.done():
            waiter.outcome.set_result(None)
        for sibling in self._line.of_call(waiter.job):  # its call has a place now
            await self._hand_in(sibling)
        return _Answer.IN

    def _dismiss(self, waiter: Waiter, error: Exception) -> None:
        self._line.remove(waiter)
        if not waiter.outcome.done():
            waiter.outcome.set_exception(error)

    async def _try(self, job: Job, *, without_place: bool = False) -> None:
        """`without_place`: only if it needs none; places are for those who wait."""
        if self.closed:
            if self._ending:
                raise CreationFailed("the service is shutting down")
            raise CreationFailed("the service is being drained and takes no new jobs")
        free_bytes = None
        if self.policy.min_free_disk_bytes is not None:
            free_bytes = await self._free_disk()
        try:
            policy = await self.policy_now()
        except BackendError as error:
            raise CreationFailed(str(error)) from error
        full = await self._unpublished_too_much(policy)
        admits = partial(
            self._admits,
            policy=policy,
            free_bytes=free_bytes,
            without_place=without_place,
            full=full,
        )
        try:
            await self._store.reserve(job, admits=admits, lease=self._lease)
        except ClientIsFull:
            raise
        except CapacityReached as error:
            if policy.max_calls:
                raise
            raise CapacityReached(_NOWHERE) from error

    def _admits(
        self,
        live: Sequence[Job],
        job: Job,
        *,
        policy: AdmissionPolicy,
        free_bytes: int | None,
        without_place: bool,
        full: UnpublishedTooMuch | None,
    ) -> bool:
        # Refused, the other half of a call that is being recorded would leave half a pair behind.
        if full is not None and all(other.call_key != job.call_key for other in live):
            raise full
        limits = self.client_limits
        limits.check_slots(live, job, post_call_slots=policy.post_call_slots)
        places = replace(policy, max_calls=0) if without_place else policy
        # What is transcribed again waits for calls, never the other way round: it yields its CPU.
        if not self._occupancy.admits(live, job, policy=places):
            return False
        now = self._clock.utc_now()
        limits.check_disk(live, job, now=now)
        self._occupancy.check_disk(live, job, policy=policy, free_bytes=free_bytes, now=now)
        return True

    async def _unpublished_too_much(self, policy: AdmissionPolicy) -> UnpublishedTooMuch | None:
        quota_bytes = policy.unpublished_quota_bytes
        if quota_bytes is None:
            return None
        left_bytes = await self._store.unpublished_bytes()
        if left_bytes < quota_bytes:
            return None
        return UnpublishedTooMuch(left_bytes=left_bytes, quota_bytes=quota_bytes)

    def _tell(self, seconds: float, *, admitted: bool) -> None:
        for observer in self._on_waited:
            observer(seconds, admitted)
