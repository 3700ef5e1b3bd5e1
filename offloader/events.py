"""Job events: who listens is told what becomes of jobs, as it happens.

What an event says is written once, however many listen. A listener that is too slow loses the oldest events
and is told how many. What other replicas do is found by looking at the store now and then, and only while
somebody listens.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from clientauth.service import Identity
from foundation.channel import Channel, Overflow
from foundation.logs import get_logger
from offloader.errors import (
    AddressListensTooOften,
    ListensTooOften,
    StoreError,
    TooManyListeners,
)
from offloader.models import Job
from offloader.ownership import sees
from offloader.store.base import JobStore

LOOK_EVERY_S: Final = 2.0
MOST_LISTENERS: Final = 768
"""Behind a proxy all of them may come by one address: a quarter of its connections are for other requests."""
MOST_OF_ONE_SOURCE: Final = 512
"""Nobody takes all of them, nor more than half of its address's connections; the admin's are not counted."""
_QUEUE: Final = 1024
_AT_ONCE: Final = 256
_PAUSE_EACH_S: Final = 0.002
_LONGEST_PAUSE_S: Final = 1.0

log = get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """A job as it is told to everybody."""

    job: Job
    _texts: dict[bool, bytes] = field(default_factory=dict)

    def text(self, client: Identity, write: Callable[[Job, Identity], bytes]) -> bytes:
        """What `write` makes of it for `client`, made once for the admin and once for all others."""
        if client.admin not in self._texts:
            self._texts[client.admin] = write(self.job, client)
        return self._texts[client.admin]


class Listener:
    """One subscription; `some` gives out what there is until it is closed."""

    def __init__(self, client: Identity, *, capacity: int) -> None:
        self._client = client
        self._events: Channel[Told] = Channel(capacity, overflow=Overflow.DROP_OLDEST)
        self._first: list[Told] = []
        """What lived when it began, newest first: not in the queue, in which there may be no room for it."""
        self._told_dropped = 0

    @property
    def is_admin(self) -> bool:
        return self._client.admin

    def may_see(self, job: Job) -> bool:
        return sees(self._client, job)

    def begin(self, live: Sequence[Told]) -> None:
        """These come first."""
        self._first = [told for told in reversed(live) if self.may_see(told.job)]

    def offer(self, told: Told) -> None:
        """Queue it, if the listener may know."""
        if self.may_see(told.job) and not self._events.closed:
            self._events.offer(told)

    async def some(self) -> Sequence[Told]:
        """What there is now, in its order, up to some hundreds; waits until there is something.

        Raises:
            ChannelClosed: the service ends, and everything was given out.
        """
        found = self.waiting()
        return found or [await self._events.receive(), *self.waiting()]

    def waiting(self) -> list[Told]:
        """As `some`; empty when there is nothing."""
        found: list[Told] = []
        while len(found) < _AT_ONCE:
            told = self._first.pop() if self._first else self._events.receive_nowait()
            if told is None:
                break
            found.append(told)
        return found

    def close(self) -> None:
        """Nothing comes any more."""
        self._events.close()

    def newly_dropped(self) -> int:
        """Events lost since this was asked last."""
        dropped = self._events.dropped
        new, self._told_dropped = dropped - self._told_dropped, dropped
        return new


class JobEvents:
    """One per process: `changed` is told of every change, `run` finds those of other replicas."""

    def __init__(
        self, store: JobStore, *, capacity: int = _QUEUE, most_each: int | None = None
    ) -> None:
        """`most_each`: how often one client may listen at a time; None: as often as there is room."""
        self._store = store
        self._most_each = most_each
        self._of_client: Counter[str] = Counter()
        """Streams of each client; the admin's are not counted."""
        self._of_source: Counter[str] = Counter()
        """Streams to each source; neither are those of nobody knows where."""
        self._capacity = capacity
        self._listeners: set[Listener] = set()
        self._here = 0
        """Listeners, and those who are about to be."""
        self._live: dict[str, Told] = {}
        """Live jobs as they were told last; kept while somebody listens."""
        self._is_known = False
        """`_live` is complete."""
        self._looking = asyncio.Lock()
        self._just_told: set[str] = set()
        """IDs of jobs of which something was told since the last look began."""
        self.closing = asyncio.Event()
        """Set when the service ends: streams end with it."""
        self._somebody = asyncio.Event()

    def retune(self, *, most_each: int | None) -> None:
        """So often one client may listen from now on; who listens goes on."""
        self._most_each = most_each

    def changed(self, before: Job | None, after: Job) -> None:
        """An observer of the store: tell everybody who may know, if it concerns them."""
        if before is None or _shown(before) != _shown(after):
            self._tell(after)
        elif _shown_to_admin(before) != _shown_to_admin(after):
            self._tell(after, to_all=False)

    def check_room(self, client: Identity, source: str = "") -> None:
        """`source`: as limits count it (`clientauth.turns.source`); empty: of no network.

        Raises TooManyListeners: `MOST_LISTENERS` listen already, or the service is ending;
        ListensTooOften: this client does; AddressListensTooOften: this source does."""
        if self.closing.is_set() or self._here >= MOST_LISTENERS:
            raise TooManyListeners
        most = None if client.admin else self._most_each
        if most is not None and self._of_client[client.client_id] >= most:
            raise ListensTooOften(most)
        if not client.admin and source and self._of_source[source] >= MOST_OF_ONE_SOURCE:
            raise AddressListensTooOften(MOST_OF_ONE_SOURCE)

    @property
    def pause_s(self) -> float:
        """How long a listener gathers events after it was told some: the more listen, the longer, so that
        what all of them cost has an end."""
        return min(_PAUSE_EACH_S * self._here, _LONGEST_PAUSE_S)

    @asynccontextmanager
    async def listen(self, client: Identity, source: str = "") -> AsyncIterator[Listener]:
        """Everything that becomes of the client's jobs (admin: of all), beginning with its live jobs.

        Raises:
            TooManyListeners, ListensTooOften, AddressListensTooOften: see `check_room`.
            StoreError: the database cannot be used.
        """
        self.check_room(client, source)
        listener = Listener(client, capacity=self._capacity)
        self._here += 1
        self._count(client, source, 1)
        self._somebody.set()
        try:
            await self._begin(listener)
            yield listener
        finally:
            self._here -= 1
            self._count(client, source, -1)
            self._listeners.discard(listener)
            if not self._here:
                self._somebody.clear()
                self._live.clear()
                self._is_known = False

    async def run(self) -> None:
        """Look at the store while somebody listens; until cancelled."""
        while True:
            await self._somebody.wait()
            await asyncio.sleep(LOOK_EVERY_S)
            with contextlib.suppress(StoreError):
                await self.look()

    async def look(self) -> None:
        """Find what this process was not told of."""
        self._just_told = set()
        live = {job.id: job for job in await self._store.live()}
        gone = [
            job_id for job_id in self._live.keys() - live.keys() if job_id not in self._just_told
        ]
        ended = [await self._store.get(job_id) for job_id in gone]
        # Of those what was read may be older than what was told: the next look is theirs.
        passed_over = frozenset(self._just_told)
        for job in [*live.values(), *ended]:
            if job is not None and job.id not in passed_over:
                self._compare(job)
        for job_id in gone:
            if job_id not in passed_over:
                self._live.pop(job_id, None)

    def close(self) -> None:
        """The service is ending: whoever listens gets what is queued, then the end. Idempotent."""
        self.closing.set()
        for listener in self._listeners:
            listener.close()

    async def _begin(self, listener: Listener) -> None:
        """Hundreds may begin at once: one of them asks the store, for all."""
        async with self._looking:
            if not self._is_known:
                for job in await self._store.live():
                    self._live.setdefault(job.id, Told(job))
                self._is_known = True
        listener.begin(list(self._live.values()))
        self._listeners.add(listener)
        if self.closing.is_set():
            listener.close()

    def _count(self, client: Identity, source: str, change: int) -> None:
        if client.admin:
            return
        for counter, name in ((self._of_client, client.client_id), (self._of_source, source)):
            counter[name] += change
            if not counter[name]:
                del counter[name]

    def _compare(self, job: Job) -> None:
        known = self._live.get(job.id)
        if known is not None and known.job is job:
            return
        if known is None or _shown(known.job) != _shown(job):
            self._tell(job)
        elif _shown_to_admin(known.job) != _shown_to_admin(job):
            self._tell(job, to_all=False)
        else:
            self._live[job.id] = Told(job)  # the next comparison is one of identities

    def _tell(self, job: Job, *, to_all: bool = True) -> None:
        """`to_all` False: to admins alone, since nobody else is shown what has changed."""
        if not self._here:
            return
        self._just_told.add(job.id)
        told = Told(job)
        if job.live:
            self._live[job.id] = told
        else:
            self._live.pop(job.id, None)
        for listener in self._listeners:
            if to_all or listener.is_admin:
                listener.offer(told)


def _shown(job: Job | None) -> object:
    """What an event is about: the rest of a job may change without one."""
    if job is None:
        return None
    publication = job.outbox.publication if job.outbox else None
    again = job.retranscription.state if job.retranscription else None
    return (job.state, job.stop_reason, job.post_call, job.unpublished, publication, again)


def _shown_to_admin(job: Job) -> object:
    """What besides an event to the admin alone is about."""
    return job.hold, job.deletion_at
