"""Somebody in a browser tab, and a log of what that tab really did."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass, field
from typing import Any, Final

from testbed.browser.meeting import Guest
from testbed.browser_call.tapes import PageEvidence
from testbed.speech.clips import CLIPS_DIRECTORY, Clip
from testbed.truth import Mark, MarkKind

_STAGE: Final = 'await import("/testbed/web/stage.js")'
_CLOCK_TRIES: Final = 5
_FAR_NS: Final = 1 << 62
_MS_NS: Final = 1_000_000


@dataclass(slots=True)
class Sending:
    """A stretch in which a voice was sent; a browser takes its time to begin and to end it."""

    asked_ns: int
    begun_ns: int
    ending_ns: int = _FAR_NS
    ended_ns: int = _FAR_NS


@dataclass(frozen=True, slots=True)
class Said:
    """A clip that was given to the voice."""

    clip: Clip
    due_ns: int
    page: int
    cut_ns: int | None = None
    """The page went away in the middle, so long after nothing more was sent."""


@dataclass(slots=True)
class Share:
    """A shared screen or a camera, from when it was asked for to when it was taken away."""

    number: int
    colour: tuple[int, int, int]
    asked_ns: int
    ended_ns: int = _FAR_NS
    codecs: frozenset[str] = frozenset()
    """What the browser sent of it, such as video/VP8; of screens."""


@dataclass(slots=True)
class Actor:
    """One person; a reload makes another page of the same person."""

    guest: Guest
    sessions: list[str] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    moving: list[tuple[int, int]] = field(default_factory=list)
    """Between when and when sessions of this person came and went."""
    sendings: list[Sending] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    shares: list[Share] = field(default_factory=list)
    cameras: list[Share] = field(default_factory=list)
    pages: list[PageEvidence] = field(default_factory=lambda: [PageEvidence()])
    negotiations: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.guest.name

    async def join(self) -> None:
        """Raises TabError."""
        asked_ns = time.monotonic_ns()
        await self.guest.join()
        self._mark("join", asked_ns)
        self.moving.append((asked_ns, time.monotonic_ns()))
        self.sessions.append(await self.guest.session_id())

    async def unmute(self, source: str = "stage") -> None:
        """The first time with a source, as the page names them."""
        asked_ns = time.monotonic_ns()
        await self.guest.do("unmute", source)
        self.sendings.append(Sending(asked_ns, time.monotonic_ns()))
        self._mark("unmute", self.sendings[-1].begun_ns)

    async def mute(self) -> None:
        sending = self.sendings[-1]
        sending.ending_ns = time.monotonic_ns()
        await self.guest.do("mute")
        sending.ended_ns = time.monotonic_ns()
        self._mark("mute", sending.ending_ns)

    async def say(self, clip: Clip) -> None:
        """Returns when it begins, not when it is over."""
        data = base64.b64encode((CLIPS_DIRECTORY / clip.name).read_bytes()).decode()
        due_ms = await self.guest.tab.run(f"async (data) => ({_STAGE}).say(data)", data)
        due_ns = await self._origin_ns() + round(due_ms * _MS_NS)
        self.said.append(Said(clip, due_ns, len(self.pages) - 1))

    async def hum(self, hz: int) -> None:
        """A tone in the voice; 0 ends it."""
        await self.guest.tab.run(f"async (hz) => ({_STAGE}).hum(hz)", hz)

    async def share(self, number: int, colour: tuple[int, int, int], *, beeps: bool) -> None:
        """Share a screen of which stage.js says that it is `number`."""
        self.shares.append(Share(number, colour, time.monotonic_ns()))
        self._mark("screen_start", self.shares[-1].asked_ns)
        source = f"stage:{number}:rgb({','.join(map(str, colour))})"
        await self.guest.do("shareScreen", source, {"withSound": beeps})

    async def stop_share(self) -> None:
        outgoing = (await self.guest.summary())["outgoing"]
        self.shares[-1].codecs = frozenset(o["codec"] for o in outgoing if o["kind"] == "video")
        self.shares[-1].ended_ns = time.monotonic_ns()
        self._mark("screen_stop", self.shares[-1].ended_ns)
        await self.guest.do("stopScreen")

    async def start_camera(self, colour: tuple[int, int, int]) -> None:
        self.cameras.append(Share(0, colour, time.monotonic_ns()))
        await self.guest.do("startCamera", f"pattern:rgb({','.join(map(str, colour))})")

    async def stop_camera(self) -> None:
        self.cameras[-1].ended_ns = time.monotonic_ns()
        await self.guest.do("stopCamera")

    async def reload(self) -> None:
        """As F5 in whatever is being said."""
        await self.collect()
        gone_ns = time.monotonic_ns()
        await self.guest.tab.reload()
        for sending in self.sendings[-1:]:
            if sending.ended_ns == _FAR_NS:
                sending.ending_ns, sending.ended_ns = gone_ns, time.monotonic_ns()
                self._mark("mute", gone_ns)
        last = self.said[-1]
        self.said[-1] = Said(last.clip, last.due_ns, last.page, cut_ns=gone_ns)
        self._mark("leave", gone_ns)
        self.pages.append(PageEvidence())

    async def collect(self) -> None:
        """Fetch what the page has kept; its connection's counters too."""
        taken = await self.guest.tab.run(f"async () => ({_STAGE}).takeEvidence()")
        self.pages[-1].add(taken, origin_ns=await self._origin_ns())
        self.negotiations.append((await self.guest.summary())["negotiation"])

    async def _origin_ns(self) -> int:
        """When the page's `performance.now()` was 0, good to a millisecond."""
        best = (_FAR_NS, 0)
        for _ in range(_CLOCK_TRIES):
            before_ns = time.monotonic_ns()
            page_ms = await self.guest.tab.run("() => performance.now()")
            after_ns = time.monotonic_ns()
            origin_ns = (before_ns + after_ns) // 2 - round(page_ms * _MS_NS)
            best = min(best, (after_ns - before_ns, origin_ns))
        return best[1]

    def _mark(self, kind: MarkKind, at_ns: int) -> None:
        self.marks.append(Mark(kind, self.name, at_ns))
