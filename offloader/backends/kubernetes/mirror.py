"""A copy of this installation's objects of one kind, kept true by list and watch.

The list tells where the watch begins; a watch that breaks goes on from the last version seen, and when the
server does not know that version any more (410) everything is listed again. While the server cannot be asked
the copy is not trusted: `require_fresh` says since when.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from foundation.logs import get_logger
from offloader.backends.kubernetes.api import ApiError, KubernetesApi, lines
from offloader.errors import BackendError

WATCH_S: Final = 240
"""After which the server ends a watch politely."""
_SILENCE_S: Final = 120.0
"""Bookmarks come every minute; a connection that died without a word is noticed by their absence."""
_STALE_S: Final = 15.0
"""So long the copy is trusted without a watch: an API server restarts within that."""
_FIRST_SYNC_S: Final = 30.0
_FIRST_PATIENCE_S: Final = 5.0
_MOST_GONE: Final = 4096
_SHORTEST_WATCH_S: Final = 1.0
_PAUSES_S: Final = (0.05, 0.2, 0.5, 1.0, 2.0)

Thing = Mapping[str, Any]

log = get_logger()


class Mirror:
    """One kind of object in one namespace, by name. `run` is its task; the rest is for everybody."""

    def __init__(
        self,
        api: KubernetesApi,
        collection: str,
        *,
        selector: str,
        changed: Callable[[Thing, bool], None] = lambda _thing, _gone: None,
    ) -> None:
        """`changed`: called with each object as it comes, and whether it is gone."""
        self._api = api
        self._collection = collection
        self._selector = selector
        self._changed = changed
        self._things: dict[str, Thing] = {}
        self._gone_uids: deque[str] = deque(maxlen=_MOST_GONE)
        """Deleted by us: a late event must not bring them back."""
        self._version = ""
        self._synced = asyncio.Event()
        self._told = asyncio.Event()
        self._broken_since_s: float | None = None
        self._last_error = ""
        self.relists = 0
        """How often everything was listed."""

    async def run(self) -> None:
        """Keep the copy true until cancelled."""
        failures = 0
        while True:
            try:
                if not self._version:
                    await self._list()
                if await self._watch():
                    failures = 0
                    continue
                # Something between closes it at once: not an error, but no reason to ask without a pause.
                failures += 1
                await asyncio.sleep(_pause_s(failures))
            except Exception as error:
                failures += 1
                if isinstance(error, ApiError) and error.status == 410:
                    self._version = ""
                elif isinstance(error, BackendError):
                    level = log.warning if failures == 3 else log.debug
                    level("kubernetes.watch_broken", error=str(error), failures=failures)
                else:
                    # Whatever it is: a copy that nobody keeps true any more would be believed for ever.
                    log.exception("kubernetes.watch_failed")
                if self._broken_since_s is None:
                    self._broken_since_s = _now_s()
                self._last_error = str(error) or type(error).__name__
                self._tell()
                await asyncio.sleep(_pause_s(failures))

    async def require_fresh(self) -> None:
        """Wait for the first list; then return at once while the copy can be trusted.

        Raises:
            BackendError: the server cannot be asked.
        """
        if not self._synced.is_set():
            # Who cannot list at all is told why, instead of waiting.
            with suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_SYNC_S):
                    while not self._synced.is_set() and not self._given_up():
                        await self._next_news()
            if not self._synced.is_set():
                raise BackendError(self._last_error or "Kubernetes: no answer to the first list")
        if self._given_up():
            raise BackendError(self._last_error)

    def get(self, name: str) -> Thing | None:
        return self._things.get(name)

    def all(self) -> list[Thing]:
        return list(self._things.values())

    def put(self, thing: Thing) -> None:
        """An object as the server has just answered it: its event may come later."""
        name = thing["metadata"]["name"]
        known = self._things.get(name)
        if known is None or _is_newer(thing, known):
            self._take(thing)

    def drop(self, thing: Thing) -> None:
        """It was deleted, or is being deleted and of no interest any more."""
        self._gone_uids.append(thing["metadata"]["uid"])
        known = self._things.get(thing["metadata"]["name"])
        if known is not None and known["metadata"]["uid"] == thing["metadata"]["uid"]:
            del self._things[thing["metadata"]["name"]]

    async def _next_news(self) -> None:
        self._told.clear()
        await self._told.wait()

    def _given_up(self) -> bool:
        broken_s = self._broken_since_s
        patience_s = _STALE_S if self._synced.is_set() else _FIRST_PATIENCE_S
        return broken_s is not None and _now_s() - broken_s >= patience_s

    async def _list(self) -> None:
        self.relists += 1
        answer = await self._api.list(self._collection, selector=self._selector)
        found = {thing["metadata"]["name"]: thing for thing in answer.get("items") or []}
        for name, thing in list(self._things.items()):
            if name not in found:
                self._lose(thing)
        for thing in found.values():
            self._take(thing)
        self._version = answer["metadata"]["resourceVersion"]
        self._in_touch()
        self._synced.set()

    async def _watch(self) -> bool:
        """Until the server ends it; whether that brought anything, or lasted at least."""
        began_s, events = _now_s(), 0
        query = {
            "watch": "true",
            "labelSelector": self._selector,
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_S + random.randrange(60)),
        }
        async with self._api.stream(self._collection, query=query, idle_s=_SILENCE_S) as chunks:
            self._in_touch()
            async for line in lines(chunks):
                if line.strip():
                    self._event(line)
                    events += 1
        return events > 0 or _now_s() - began_s >= _SHORTEST_WATCH_S

    def _event(self, line: bytes) -> None:
        try:
            event = json.loads(line)
            kind, thing = event["type"], event["object"]
            if kind == "ERROR":
                status = int(thing.get("code") or 500)
                raise ApiError(f"Kubernetes: {thing.get('message')}", status=status)
            version = thing["metadata"]["resourceVersion"]
        except (ValueError, KeyError, TypeError) as error:
            # Cut in the middle by a connection that broke: the watch goes on from the last version.
            raise ApiError("the Kubernetes API broke off within an event") from error
        if kind == "DELETED":
            self._lose(thing)
        elif kind in ("ADDED", "MODIFIED"):
            self._take(thing)
        self._version = version
        self._tell()

    def _take(self, thing: Thing) -> None:
        if thing["metadata"]["uid"] in self._gone_uids:
            return
        if "managedFields" in thing["metadata"]:  # more than all the rest, and of no use here
            metadata = {k: v for k, v in thing["metadata"].items() if k != "managedFields"}
            thing = {**thing, "metadata": metadata}
        self._things[thing["metadata"]["name"]] = thing
        self._changed(thing, False)

    def _lose(self, thing: Thing) -> None:
        if thing["metadata"]["uid"] in self._gone_uids:
            return  # nobody asks for it any more
        known = self._things.pop(thing["metadata"]["name"], None)
        if known is not None and known["metadata"]["uid"] != thing["metadata"]["uid"]:
            self._things[thing["metadata"]["name"]] = known  # another one under the same name
        self._changed(thing, True)

    def _in_touch(self) -> None:
        self._broken_since_s = None
        self._tell()

    def _tell(self) -> None:
        self._told.set()


def _is_newer(thing: Thing, known: Thing) -> bool:
    """Versions are opaque; those of one object grow, as every server there is makes them."""
    new, old = thing["metadata"]["resourceVersion"], known["metadata"]["resourceVersion"]
    if thing["metadata"]["uid"] != known["metadata"]["uid"]:
        return True
    return not (new.isdigit() and old.isdigit()) or int(new) >= int(old)


def _pause_s(failures: int) -> float:
    return _PAUSES_S[min(failures, len(_PAUSES_S)) - 1] * random.uniform(0.7, 1.3)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
