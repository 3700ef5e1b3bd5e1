"""Emptying this server: what is refused meanwhile, how long it may take (rtcd.md 1.1, trap 36).

rtcd waits for its sessions without limit after SIGTERM, takes new ones meanwhile and tells nobody. That is
the default here too; a limit, refusals and a status can be had.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from foundation.clock import Clock
from foundation.logs import get_logger
from sfu.media_port import MediaServer
from sfu.settings import REFUSALS, Refusal

_LOOK_EVERY_S: Final = 0.1
_TELL_EVERY_S: Final = 30.0


class DrainConflict(Exception):
    """What is asked for contradicts what is going on; the message says what."""


class Drain:
    """One for the whole server. An admin begins and ends it; a signal makes it final."""

    def __init__(self, *, media: MediaServer, clock: Clock) -> None:
        self._media = media
        self._clock = clock
        self._refusal: Refusal = "none"
        self._asked = False
        self._stopping = False
        self._deadline_ns: int | None = None
        self._log = get_logger(component="drain")

    @property
    def draining(self) -> bool:
        """This server should get no new calls: it is not ready."""
        return self._asked or self._stopping

    def begin(self, refusal: Refusal) -> None:
        """An admin wants this server empty. It runs on until it gets a signal."""
        self._asked = True
        self._refusal = _stronger(self._refusal, refusal) if self._stopping else refusal
        self._log.info("drain.begun", refuse=self._refusal, sessions=self._media.session_count())

    def end(self) -> None:
        """The admin has thought better of it. Raises DrainConflict: the process is ending."""
        if self._stopping:
            raise DrainConflict("the process is ending: a drain cannot be taken back any more")
        self._asked = False
        self._refusal = "none"
        self._log.info("drain.ended")

    def refuses(self, group_id: str, call_id: str) -> bool:
        """Is a join of this call refused now?"""
        if self._refusal == "calls":
            return self._media.sessions(group_id, call_id) is None
        return self._refusal == "joins"

    def status(self) -> dict[str, Any]:
        """The document of `GET /drain`."""
        left_s = None
        if self._deadline_ns is not None:
            left_s = max(0.0, round((self._deadline_ns - self._clock.monotonic_ns()) / 1e9, 1))
        return {
            "draining": self.draining,
            "stopping": self._stopping,
            "refuse": self._refusal,
            "sessions": self._media.session_count(),
            "secondsLeft": left_s,
        }

    async def stop(
        self, *, refusal: Refusal, timeout_s: float | None, hurry: asyncio.Event
    ) -> None:
        """Wait until no session is left, `timeout_s` is over (None: no limit) or `hurry` is set."""
        self._stopping = True
        self._refusal = _stronger(self._refusal, refusal)
        if timeout_s is not None:
            self._deadline_ns = self._clock.monotonic_ns() + round(timeout_s * 1e9)
        self._log.info(
            "drain.waiting",
            sessions=self._media.session_count(),
            refuse=self._refusal,
            timeout_s=timeout_s,
        )
        told_ns = self._clock.monotonic_ns()
        while self._media.session_count() and not hurry.is_set():
            now_ns = self._clock.monotonic_ns()
            if self._deadline_ns is not None and now_ns >= self._deadline_ns:
                break
            if now_ns - told_ns >= _TELL_EVERY_S * 1e9:
                told_ns = now_ns
                self._log.info("drain.waiting", sessions=self._media.session_count())
            try:
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await hurry.wait()
            except TimeoutError:
                continue
        self._log.info("drain.over", sessions_cut=self._media.session_count())


def _stronger(one: Refusal, other: Refusal) -> Refusal:
    return max(one, other, key=REFUSALS.index)
