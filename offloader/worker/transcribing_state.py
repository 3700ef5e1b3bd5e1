"""The tracks of one job that others transcribe: who has which, and which have to be offered again. Pure.

A track waits, is claimed by a worker that tells every few seconds that it lives, and is done with the first
result that comes, whoever sends it. Times are seconds on any one clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Self

SILENT_S: Final = 12.0
"""A worker that has not been heard of for so long is lost, and its track waits again."""
MOST_FAILURES: Final = 3
"""Of a track; then the job itself has to do it."""
_FIRST_OFFER_S: Final = 10.0
"""A message may be lost with a broker, or still lie in a long queue: a second one does no harm."""
_LONGEST_OFFER_S: Final = 320.0
_AGAIN_S: Final = 2.0
"""After a worker that failed: others shall have it, and that one does not take it."""


class TrackPhase(Enum):
    WAITING = "waiting"
    CLAIMED = "claimed"
    DONE = "done"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"


class ClaimAnswer(Enum):
    """What a worker hears that wants a track."""

    GRANTED = "granted"
    TAKEN = "taken"
    """Another one is at it, or this one has failed at it."""
    OVER = "over"
    """Nobody needs it any more."""


@dataclass(slots=True)
class Track:
    """One speaker's sound."""

    name: str
    pieces: int
    phase: TrackPhase = TrackPhase.WAITING
    claim: str = ""
    worker: str = ""
    silent: tuple[str, str] = ("", "")
    """Claim and worker that it was taken from because nothing was heard of them: they may only be late."""
    done: int = 0
    """Pieces, as the worker tells."""
    failures: int = 0
    reason: str = ""
    """Of the latest failure."""
    failed_at: set[str] = field(default_factory=set)
    """Workers that could not do it."""
    heard_s: float = 0.0
    """When its worker was last heard of."""
    offer_at_s: float = 0.0
    """When it is to be offered (again)."""
    offers: int = 0


class JobTracks:
    """One job's. Every change makes `version` grow."""

    def __init__(self, tracks: Iterable[Track]) -> None:
        self.tracks: dict[str, Track] = {track.name: track for track in tracks}
        self.version = 1

    @classmethod
    def begun(cls, pieces: Mapping[str, int], *, now_s: float) -> Self:
        """All of them wait, and are to be offered now."""
        return cls(Track(name, count, offer_at_s=now_s) for name, count in pieces.items())

    @classmethod
    def restored(cls, documents: Iterable[Mapping[str, Any]], *, now_s: float) -> Self:
        """As `documents` said, after a restart: workers have a moment to be heard of.

        Raises:
            ValueError, KeyError, TypeError: they say nothing of the kind.
        """
        tracks = []
        for entry in documents:
            phase = TrackPhase(entry["phase"])
            track = Track(
                name=str(entry["name"]),
                pieces=int(entry["pieces"]),
                phase=phase,
                claim=str(entry["claim"]),
                worker=str(entry["worker"]),
                done=int(entry["done"]),
                failures=int(entry["failures"]),
                reason=str(entry["reason"]),
                failed_at=set(entry["failed_at"]),
                heard_s=now_s,
                offer_at_s=now_s,
            )
            tracks.append(track)
        return cls(tracks)

    def documents(self) -> list[dict[str, Any]]:
        """For `restored`."""
        return [
            {
                "name": track.name,
                "pieces": track.pieces,
                "phase": track.phase.value,
                "claim": track.claim,
                "worker": track.worker,
                "done": track.done,
                "failures": track.failures,
                "reason": track.reason,
                "failed_at": sorted(track.failed_at),
            }
            for track in self.tracks.values()
        ]

    def claim(self, name: str, *, claim: str, worker: str, now_s: float) -> ClaimAnswer:
        """`claim`: the worker's own word for it; asked again with the same one it hears the same."""
        if not self.needs(name):
            return ClaimAnswer.OVER
        track = self.tracks[name]
        if track.phase is TrackPhase.CLAIMED:
            return ClaimAnswer.GRANTED if track.claim == claim else ClaimAnswer.TAKEN
        if worker in track.failed_at:
            return ClaimAnswer.TAKEN
        track.phase, track.claim, track.worker = TrackPhase.CLAIMED, claim, worker
        track.heard_s, track.done, track.silent = now_s, 0, ("", "")
        self.version += 1
        return ClaimAnswer.GRANTED

    def beat(self, name: str, *, claim: str, done: int, now_s: float) -> bool:
        """The worker lives, and `done` pieces are done. False: it may stop.

        One that comes late has the track again, unless another has it by now.
        """
        track = self.tracks.get(name)
        if track is not None and track.phase is TrackPhase.WAITING and track.silent[0] == claim:
            self.claim(name, claim=claim, worker=track.silent[1], now_s=now_s)
        if track is None or track.phase is not TrackPhase.CLAIMED or track.claim != claim:
            return False
        track.heard_s = now_s
        if done != track.done:
            track.done = max(0, min(done, track.pieces))
            self.version += 1
        return True

    def needs(self, name: str) -> bool:
        """Whether a result of that track is of use."""
        track = self.tracks.get(name)
        return track is not None and track.phase in (TrackPhase.WAITING, TrackPhase.CLAIMED)

    def finish(self, name: str) -> None:
        """A result has come, whoever sends it; the first one counts."""
        if self.needs(name):
            track = self.tracks[name]
            track.phase, track.done = TrackPhase.DONE, track.pieces
            self.version += 1

    def fail(
        self, name: str, *, claim: str, reason: str, now_s: float, ending: bool = False
    ) -> None:
        """The worker with that claim could not do it, or gives it back because it is `ending`."""
        track = self.tracks.get(name)
        if track is None or track.phase is not TrackPhase.CLAIMED or track.claim != claim:
            return
        if ending:
            track.failures -= 1
        else:
            track.failed_at.add(track.worker)
        self._lose(track, reason, offer_at_s=now_s if ending else now_s + _AGAIN_S)

    def withdraw(self, name: str) -> bool:
        """The job does it itself. False: somebody is at it, or it is done."""
        track = self.tracks.get(name)
        if track is None or track.phase in (TrackPhase.CLAIMED, TrackPhase.DONE):
            return False
        track.phase = TrackPhase.WITHDRAWN
        self.version += 1
        return True

    def lose_the_silent(self, *, now_s: float) -> list[str]:
        """Tracks whose workers are silent wait again; their names."""
        lost = [
            track
            for track in self.tracks.values()
            if track.phase is TrackPhase.CLAIMED and now_s - track.heard_s > SILENT_S
        ]
        for track in lost:
            track.silent = track.claim, track.worker
            self._lose(track, "its worker is silent", offer_at_s=now_s)
        return [track.name for track in lost]

    def due(self, *, now_s: float) -> list[str]:
        """What is to be offered now; each name comes again later, at growing intervals."""
        names = []
        for track in self.tracks.values():
            if track.phase is TrackPhase.WAITING and now_s >= track.offer_at_s:
                wait_s = min(_FIRST_OFFER_S * 2.0**track.offers, _LONGEST_OFFER_S)
                track.offers += 1
                track.offer_at_s = now_s + wait_s
                names.append(track.name)
        return names

    def offer_again(self, name: str, *, at_s: float) -> None:
        """The broker did not take it."""
        track = self.tracks.get(name)
        if track is not None:
            track.offers = max(0, track.offers - 1)
            track.offer_at_s = at_s

    def _lose(self, track: Track, reason: str, *, offer_at_s: float) -> None:
        track.failures += 1
        track.reason, track.claim, track.worker, track.done = reason, "", "", 0
        track.phase = TrackPhase.WAITING
        track.offers, track.offer_at_s = 0, offer_at_s
        if track.failures >= MOST_FAILURES:
            track.phase = TrackPhase.FAILED
        self.version += 1
