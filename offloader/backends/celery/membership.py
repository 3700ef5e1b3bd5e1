"""Which workers there are: a broadcast every three seconds, and what their doors answer in between.

A worker is known by the URL of its door. It is live while it was heard of, there or here, within twelve
seconds. Lives on the event loop; its task starts when somebody asks for the first time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from foundation.logs import get_logger
from offloader.backends.base import Places
from offloader.backends.remote.wire import WorkerCard
from offloader.errors import BackendError
from offloader.models import JobType

HEARD_FOR_S: Final = 12.0
_ASK_EVERY_S: Final = 3.0
_FIRST_ROUND_S: Final = 2.5
_NOT_YET: Final = "the broker has not answered yet"
_REMEMBERED_S: Final = 24 * 3600.0

log = get_logger()


class Membership:
    """One per backend."""

    def __init__(
        self, ask: Callable[[], Awaitable[Sequence[WorkerCard]]], *, labels: Mapping[JobType, str]
    ) -> None:
        """`ask`: who is there, by broadcast. `labels`: which workers a type's jobs are sent to."""
        self._ask = ask
        self._labels = labels
        self._cards: dict[str, WorkerCard] = {}
        self._heard_s: dict[str, float] = {}
        """When something was last heard of whoever is, or will be, behind a URL."""
        self._task: asyncio.Task[None] | None = None
        self._first_round = asyncio.Event()
        self._since_s = 0.0
        """Since when nobody's silence is the broker's fault, or ours."""
        self.fault = _NOT_YET
        """Why the broker cannot be used; empty: it can."""

    def begin(self) -> None:
        """Ask from now on. Idempotent."""
        if self._task is None:
            self._since_s = _now_s()
            self._task = asyncio.create_task(self._watch(), name="celery-membership")

    async def watched(self) -> None:
        """`begin`, and wait a moment for the first answers."""
        self.begin()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_ROUND_S):
                await self._first_round.wait()

    def heard(self, url: str) -> None:
        """The worker there has said something just now."""
        self._heard_s[url] = _now_s()

    def live(self) -> list[WorkerCard]:
        """The workers that were heard of lately, by name."""
        since_s = _now_s() - HEARD_FOR_S
        found = [card for url, card in self._cards.items() if self._heard_s[url] > since_s]
        return sorted(found, key=lambda card: (card.name, card.url))

    def takers(self, job_type: JobType) -> list[WorkerCard]:
        """The live workers that a job of the type could go to now."""
        label = self._labels.get(job_type, "")
        return [
            card
            for card in self.live()
            if not card.draining
            and not card.usable
            and (label in card.labels if label else not card.only_labelled)
        ]

    def places(self) -> Places:
        """Each call needs a place for its recording, and one for its transcription.

        What runs on workers that take nothing more counts, too: its calls are among those in progress.
        """
        live = self.live()
        takers = {kind: self.takers(kind) for kind in JobType}
        calls = max(sum(_running(card, kind) for card in live) for kind in JobType)
        room: list[int] = []
        for kind, cards in takers.items():
            elsewhere = sum(_running(card, kind) for card in live if card not in cards)
            # Calls that need no place of this kind.
            without = calls - sum(_running(card, kind) for card in live)
            room.append(sum(card.slots for card in cards) + elsewhere + without)
        hosts = {card.url for cards in takers.values() for card in cards}
        disks = [card.free_disk_bytes for card in live if not card.draining]
        least = min((free for free in disks if free is not None), default=None)
        return Places(calls=min(room), hosts=len(hosts), least_disk_bytes=least)

    def url_of(self, name: str, url: str) -> str:
        """Where the worker is now that was at `url`: it may have come back at another address."""
        live = self.live()
        if any(card.url == url for card in live):
            return url
        again = [card.url for card in live if card.name == name]
        return again[0] if len(again) == 1 else url

    def silent_s(self, url: str) -> float:
        """How long the worker has been silent while the broker answered, as far as this process can tell.
        Zero while the broker does not: it may be the one that keeps the worker from us."""
        if self.fault:
            return 0.0
        heard_s = self._heard_s.get(url, self._since_s)
        return _now_s() - max(heard_s, self._since_s)

    def unheard_s(self, url: str) -> float | None:
        """How long nothing has been heard of the worker; None: nothing ever was."""
        heard_s = self._heard_s.get(url)
        return None if heard_s is None else _now_s() - heard_s

    def workers(self) -> dict[str, bool]:
        """Every worker heard of within a day, and whether it is live; not those that drained and ended."""
        live = {card.url for card in self.live()}
        found: dict[str, bool] = {}
        for url, card in self._cards.items():
            if url in live or not card.draining:
                found[card.name] = url in live or found.get(card.name, False)
        return found

    def obstacle(self) -> str:
        """Why no worker could take a job now; empty when one could."""
        if self.fault and not self.live():
            return self.fault
        missing = [kind for kind in JobType if not self.takers(kind)]
        if not missing:
            return ""
        live = self.live()
        if not live:
            return "no worker answers: start `offloader worker` on the hosts that shall run jobs"
        label = self._labels.get(missing[0], "")
        wanted = f" with the label {label}" if label else ""
        reasons = [f"{card.name} {_why_not(card)}" for card in live]
        return f"no worker{wanted} takes {missing[0].value} jobs: {', '.join(reasons)}"

    async def aclose(self) -> None:
        """Stop asking. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _watch(self) -> None:
        while True:
            began_s = _now_s()
            try:
                cards = await self._ask()
            except BackendError as error:
                self._note_fault(str(error))
            else:
                self._note(cards)
            self._first_round.set()
            await asyncio.sleep(max(_ASK_EVERY_S - (_now_s() - began_s), 0.1))

    def _note_fault(self, text: str) -> None:
        if self.fault in ("", _NOT_YET):
            log.error("broker.unusable", reason=text)
        self.fault = text

    def _note(self, cards: Sequence[WorkerCard]) -> None:
        if self.fault not in ("", _NOT_YET):
            log.info("broker.usable_again")
            self._since_s = _now_s()
        self.fault = ""
        for card in cards:
            if card.url not in self._cards:
                log.info("worker.found", worker=card.name, url=card.url, slots=card.slots)
            self._cards[card.url] = card
            self.heard(card.url)
        for url in [url for url, at_s in self._heard_s.items() if _now_s() - at_s > _REMEMBERED_S]:
            del self._heard_s[url]
            self._cards.pop(url, None)


def _running(card: WorkerCard, kind: JobType) -> int:
    return card.recording if kind is JobType.RECORDING else card.transcribing


def _why_not(card: WorkerCard) -> str:
    if card.draining:
        return "is draining"
    return f"cannot: {card.usable}" if card.usable else "takes other jobs"


def _now_s() -> float:
    return asyncio.get_running_loop().time()
