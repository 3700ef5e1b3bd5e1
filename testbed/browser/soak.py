"""Three tabs that do everything there is to do in a call, again and again, and the figures of that."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from foundation.process_stats import read_process_stats
from testbed.browser.chromium import Chromium
from testbed.browser.devtools import DevToolsError
from testbed.browser.meeting import Guest, Meeting
from testbed.browser.tab import TabError

_NAMES: Final = ("alice", "bob", "carol")
_TONES: Final = {"alice": 600, "bob": 900, "carol": 1400}
_SCREEN_HZ: Final = 2000
_NEAR_HZ: Final = 15
_RED: Final = (200, 40, 40)
_GREEN: Final = (40, 160, 60)
_BLUE: Final = (40, 60, 200)
_SHARES_OF_A_TAB: Final = 8
"""After so many the tab that shares is reloaded. As with the web client, each share of a screen with its
sound takes new sections, because a browser does not use one again from which it has sent; descriptions
grow, and the plugin takes 64 KiB. `largest_sdp_bytes` tells how near that came."""


class SoakFailed(Exception):
    """Somebody did not hear or see what was sent, or heard something else."""


@dataclass(slots=True)
class Report:
    """Everything that was counted; zeros where nothing went wrong."""

    chromium: str = ""
    duration_s: float = 0.0
    rounds: int = 0
    joins: int = 0
    offers_sent: int = 0
    offers_taken: int = 0
    failed_offers: list[str] = field(default_factory=list)
    conflicts: int = 0
    largest_sdp_bytes: int = 0
    """Of what a page sent; the plugin takes 65536 with its wrapping."""
    page_errors: list[str] = field(default_factory=list)
    decoder_errors: list[str] = field(default_factory=list)
    frames_decoded: int = 0
    frames_dropped: int = 0
    freezes: int = 0
    frozen_s: float = 0.0
    packets_received: int = 0
    packets_lost: int = 0
    sfu_cpu_s: float = 0.0
    sfu_rss_first_bytes: int = 0
    """After the first round."""
    sfu_rss_last_bytes: int = 0
    failure: str = ""
    """Why it ended early."""

    @property
    def good(self) -> bool:
        """Nobody missed anything, no offer failed, no decoder complained."""
        wrong = [self.failure, *self.failed_offers, *self.page_errors, *self.decoder_errors]
        return not any(wrong) and self.conflicts == 0 and self.rounds > 0

    def public(self) -> dict[str, Any]:
        """As JSON."""
        return {"good": self.good} | asdict(self)


class Soak:
    """`run` once."""

    def __init__(self, meeting: Meeting, chromium: Chromium) -> None:
        self._meeting = meeting
        self._chromium = chromium
        self._report = Report()
        self._guests: dict[str, Guest] = {}

    async def run(self, duration_s: float) -> Report:
        """Rounds until `duration_s` is over, at least one; the first failure ends it."""
        started_s = time.monotonic()
        self._report.chromium = await self._chromium.version()
        await self._meeting.configure(EnableVideo=True)
        try:
            for name in _NAMES:
                self._guests[name] = await self._meeting.guest(self._chromium, name)
                await self._join(name)
            while self._report.rounds == 0 or time.monotonic() - started_s < duration_s:
                await self._round()
                self._report.rounds += 1
                if self._report.rounds % _SHARES_OF_A_TAB == 0:
                    await self._reload("alice")
                self._read_sfu()
        except Exception as error:  # noqa: BLE001 - whatever it is, it goes into the report
            self._report.failure = f"{type(error).__name__}: {error}"
        for guest in self._guests.values():
            self._report.page_errors += guest.tab.errors
            try:
                await self._count(guest)
                await guest.tab.close()
            except (TabError, DevToolsError) as error:
                # What failed first says more, and the report is worth more than these figures.
                self._report.failure = self._report.failure or f"{type(error).__name__}: {error}"
        self._report.decoder_errors = self._chromium.decoder_errors()
        self._report.duration_s = round(time.monotonic() - started_s, 1)
        return self._report

    async def _round(self) -> None:
        alice, bob, carol = (self._guests[name] for name in _NAMES)
        for name in _NAMES:
            await self._guests[name].do("unmute", f"tone:{_TONES[name]}")
        await self._voices_are_heard()
        await alice.do("shareScreen", f"pattern:rgb{_RED}+tone:{_SCREEN_HZ}")
        await bob.do("startCamera", f"pattern:rgb{_BLUE}")
        alice_id, bob_id = await alice.session_id(), await bob.session_id()
        for viewer in (bob, carol):
            await viewer.until_colour(alice_id, "screen", _RED)
            await _hears(viewer, alice_id, "screen-audio", _SCREEN_HZ)
        for viewer in (alice, carol):
            await viewer.until_colour(bob_id, "video", _BLUE)
        await bob.do("mute")
        await alice.do("stopScreen")
        await bob.do("shareScreen", f"pattern:rgb{_GREEN}")
        await self._reload("carol")
        for viewer in (alice, carol):
            await viewer.until_colour(bob_id, "screen", _GREEN)
        await bob.do("unmute")
        await self._voices_are_heard()
        await bob.do("stopCamera")
        await bob.do("stopScreen")
        await self._reload("bob")
        for name in _NAMES:
            await self._guests[name].do("mute")

    async def _voices_are_heard(self) -> None:
        listening = []
        for speaker in _NAMES:
            session_id = await self._guests[speaker].session_id()
            if not (await self._guests[speaker].state())["unmuted"]:
                continue
            for listener in set(_NAMES) - {speaker}:
                guest = self._guests[listener]
                listening.append(_hears(guest, session_id, "voice", _TONES[speaker]))
        await asyncio.gather(*listening)

    async def _join(self, name: str) -> None:
        await self._guests[name].join()
        self._report.joins += 1

    async def _reload(self, name: str) -> None:
        guest = self._guests[name]
        await self._count(guest)
        await guest.tab.reload()
        await self._join(name)

    async def _count(self, guest: Guest) -> None:
        """What a page has counted goes with it when it is reloaded."""
        report, summary = self._report, await guest.summary()
        negotiation = summary.get("negotiation")
        if negotiation:
            report.offers_sent += negotiation["offersSent"]
            report.offers_taken += negotiation["offersTaken"]
            report.conflicts += negotiation["conflicts"]
            report.failed_offers += negotiation["failures"]
            report.largest_sdp_bytes = max(report.largest_sdp_bytes, negotiation["largestSdp"])
        for track in summary["incoming"]:
            report.packets_received += track["packetsReceived"]
            report.packets_lost += track["packetsLost"]
            if track["kind"] == "video":
                report.frames_decoded += track["framesDecoded"]
                report.frames_dropped += track["framesDropped"]
                report.freezes += track["freezeCount"]
                report.frozen_s += track["totalFreezesDuration"]

    def _read_sfu(self) -> None:
        stats = [read_process_stats(process.pid) for process in self._meeting.sfus.values()]
        self._report.sfu_cpu_s = round(sum(s.cpu_s for s in stats), 2)
        self._report.sfu_rss_last_bytes = sum(s.rss_bytes for s in stats)
        self._report.sfu_rss_first_bytes = (
            self._report.sfu_rss_first_bytes or self._report.sfu_rss_last_bytes
        )


async def _hears(listener: Guest, session_id: str, type_: str, hz: int) -> None:
    await listener.until_incoming(session_id, type_, "t.packetsReceived > 10")
    heard = await listener.listen(session_id, type_)
    if abs(heard["hz"] - hz) > _NEAR_HZ:
        raise SoakFailed(f"{listener.name} heard {heard['hz']:.0f} Hz of a {type_} of {hz} Hz")
