"""What we publish: offers of ours, one at a time and under the signaling lock (calls-plugin.md 4.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from callclient.errors import MediaFailed
from callclient.lock import LockClient
from callclient.publish import LocalTrack
from rtc.peer import Peer
from rtc.sdp import MediaKind
from rtc.sections import LocalMedia, Section

AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
ANSWER_TIMEOUT_S = 4.0
"""Shorter than the 5 s for which the SFU waits for the lock that we hold meanwhile: it drops its own
change of tracks then, for good (rtcd.md trap 25)."""
_RESTART_LOCK_S = 0.3
_RESTART_ANSWER_S = 2.0
"""The SFU ignores an offer that meets one of its own; then ours is due again soon."""


class Publishing:
    """The outgoing side of one peer connection."""

    def __init__(self, peer: Peer, lock: LockClient, *, send_offer: Callable[[str], None]) -> None:
        self._peer = peer
        self._lock = lock
        self._send_offer = send_offer
        self._turn = asyncio.Lock()
        self._offering = asyncio.Lock()
        self._restarting = False
        self._answered: asyncio.Future[None] | None = None
        self.tracks: dict[int, LocalTrack] = {}
        """By SSRC."""

    async def publish(self, kind: MediaKind, media: LocalMedia) -> LocalTrack:
        """Offer one more track.

        Raises:
            MediaFailed: no lock, or no usable answer in time.
        """
        async with self._turn:
            await self._lock.acquire()
            try:
                async with self._offering:
                    section = await self._offer_section(kind, media)
            finally:
                self._lock.release()
        codec = "opus" if kind == "audio" else "VP8"
        payload_type = section.payload_type(codec)
        if payload_type is None:
            raise MediaFailed(f"the SFU does not take {codec}")
        track = LocalTrack(
            ssrc=media.ssrc,
            payload_type=payload_type,
            clock_rate_hz=48_000 if kind == "audio" else 90_000,
            audio_level_id=section.extensions.get(AUDIO_LEVEL),
            send_rtp=self._peer.send_rtp,
        )
        self.tracks[media.ssrc] = track
        return track

    async def restart_ice(self) -> bool:
        """Offer an ICE restart; was it answered?

        The lock is asked for over the very path that has died, so it is not insisted on: an offer without it
        that meets one of the SFU's is ignored there and withdrawn here (`give_way`).
        """
        locked = False
        if not self._turn.locked():
            async with self._turn:
                try:
                    await self._lock.acquire(timeout_s=_RESTART_LOCK_S)
                    locked = True
                except MediaFailed:
                    pass
        try:
            async with self._offering:
                return await self._offer_restart()
        finally:
            if locked:
                self._lock.release()

    def give_way(self) -> None:
        """An offer of the SFU came while ours to restart ICE is open: theirs counts, ours comes again."""
        if self._restarting and self._answered is not None and not self._answered.done():
            self._peer.negotiation.withdraw_offer()
            self._answered.cancel()

    def unpublish(self, ssrc: int) -> None:
        """Stop using a track's section; the next offer tells."""
        self.tracks.pop(ssrc, None)
        for section in self._peer.negotiation.sections:
            if section.local is not None and section.local.ssrc == ssrc:
                section.local = None

    def answered(self) -> None:
        """The answer to an offer of ours was applied."""
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    async def _offer_restart(self) -> bool:
        negotiation = self._peer.negotiation
        answered = self._answered = asyncio.get_running_loop().create_future()
        self._restarting = True
        try:
            self._peer.restart_ice()
            self._send_offer(await self._peer.create_offer())
            await asyncio.wait([answered], timeout=_RESTART_ANSWER_S)
            return answered.done() and not answered.cancelled()
        finally:
            self._restarting = False
            if not answered.done():
                negotiation.withdraw_offer()
                answered.cancel()

    async def _offer_section(self, kind: MediaKind, media: LocalMedia) -> Section:
        negotiation = self._peer.negotiation
        known = list(negotiation.sections)
        section = negotiation.add_sender(kind, media)
        self._answered = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                self._send_offer(await self._peer.create_offer())
                await self._answered
        except BaseException as error:
            # Nobody else knows of it (RFC 9429 section 4.1.10.2): the SFU's next offer brings sections
            # of its own in this place.
            negotiation.withdraw_offer()
            section.local = None
            if section not in known:
                negotiation.sections.remove(section)
            if isinstance(error, TimeoutError):
                raise MediaFailed(f"no answer to our offer within {ANSWER_TIMEOUT_S:g} s") from None
            raise
        return section
