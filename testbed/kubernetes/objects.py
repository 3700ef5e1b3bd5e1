"""The double's store: objects with UIDs and versions, and the history that watches read."""

from __future__ import annotations

import asyncio
import copy
import secrets
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

Thing = dict[str, Any]
KINDS: Final = {"jobs": "Job", "pods": "Pod", "secrets": "Secret"}
_EXPIRED: Final = "too old resource version"


class Refused(Exception):
    """Answered with a Status object."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Event:
    """One change."""

    version: int
    plural: str
    kind: str
    """ADDED, MODIFIED or DELETED."""
    thing: Thing


class Objects:
    """Everything in one namespace. Who changes something tells `news`."""

    def __init__(self) -> None:
        self.version = 1000
        self.oldest = 1000
        """A watch from an earlier version is expired."""
        self.history: list[Event] = []
        self._things: dict[str, dict[str, Thing]] = {plural: {} for plural in KINDS}
        self._news = asyncio.Event()
        self.observers: list[Callable[[Event], None]] = []

    def all(self, plural: str) -> list[Thing]:
        return list(self._things[plural].values())

    def find(self, plural: str, name: str) -> Thing | None:
        return self._things[plural].get(name)

    def get(self, plural: str, name: str) -> Thing:
        found = self.find(plural, name)
        if found is None:
            raise Refused(404, "NotFound", f'{plural} "{name}" not found')
        return found

    def create(self, plural: str, thing: Thing) -> Thing:
        meta = thing["metadata"]
        if "name" not in meta:
            meta["name"] = meta.pop("generateName") + secrets.token_hex(3)[:5]
        if meta["name"] in self._things[plural]:
            raise Refused(409, "AlreadyExists", f'{plural} "{meta["name"]}" already exists')
        meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": now_text(), "namespace": "calls"}
        thing.setdefault("kind", KINDS[plural])
        self._things[plural][meta["name"]] = thing
        self._tell(plural, "ADDED", thing)
        return thing

    def touch(self, plural: str, thing: Thing) -> Thing:
        """It was changed in place; changes of what is gone go nowhere."""
        if self._things[plural].get(thing["metadata"]["name"]) is thing:
            self._tell(plural, "MODIFIED", thing)
        return thing

    def remove(self, plural: str, thing: Thing) -> None:
        """With everything that it owns, as the garbage collector does."""
        name = thing["metadata"]["name"]
        if self._things[plural].get(name) is not thing:
            return
        del self._things[plural][name]
        self._tell(plural, "DELETED", thing)

    def owned_by(self, uid: str) -> Iterator[tuple[str, Thing]]:
        for plural in KINDS:
            for thing in self.all(plural):
                owners = thing["metadata"].get("ownerReferences") or []
                if any(owner["uid"] == uid for owner in owners):
                    yield plural, thing

    def forget_history(self) -> None:
        """As etcd's compaction: what watches have not read yet is gone."""
        self.history.clear()
        self.version += 1
        self.oldest = self.version
        self._wake()

    async def changes_after(self, version: int, plural: str) -> list[Event]:
        """Wait for some. Raises Refused (410) when they are forgotten."""
        while True:
            if version < self.oldest:
                raise Refused(410, "Expired", f"{_EXPIRED}: {version} ({self.oldest})")
            found = [e for e in self.history if e.version > version and e.plural == plural]
            if found:
                return found
            await self._news.wait()

    def _tell(self, plural: str, kind: str, thing: Thing) -> None:
        self.version += 1
        thing["metadata"]["resourceVersion"] = str(self.version)
        event = Event(self.version, plural, kind, copy.deepcopy(thing))
        self.history.append(event)
        self._wake()
        for observer in self.observers:
            observer(event)

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def matches(thing: Thing, selector: str) -> bool:
    """Equality terms, which are all that the backend uses."""
    labels = thing["metadata"].get("labels") or {}
    terms = [term.partition("=") for term in selector.split(",") if term]
    return all(labels.get(key) == value for key, _, value in terms)


def now_text(later_s: float = 0.0) -> str:
    """As metav1.Time is written: whole seconds."""
    return (datetime.now(UTC) + timedelta(seconds=later_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
