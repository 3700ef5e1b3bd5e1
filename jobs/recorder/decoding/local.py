"""Decoding in the process that asks: for measurements of what isolation costs, and for tests of what is
around it. Participants' bytes do not belong here."""

from __future__ import annotations

from collections.abc import Sequence

from callclient.receive.decoders import DECODERS
from callclient.receive.tracks import Codec
from jobs.recorder.decoding import wire
from jobs.recorder.decoding.decoder import Decoded
from jobs.recorder.decoding.frames import Decoders


class LocalDecoder:
    """As `decoder.Decoder`, without its protection. Owned by one thread."""

    def __init__(self) -> None:
        self._decoders = Decoders()
        self.generation = 0

    def decode(self, track: int, owner: str, frames: Sequence[tuple[Codec, bytes]]) -> Decoded:
        del owner
        coded = [(wire.DECODERS.index(DECODERS[codec]), data) for codec, data in frames]
        outcome = self._decoders.decode(track, coded)
        good = outcome.verdict is wire.Verdict.GOOD
        return Decoded(outcome.taken, outcome.shown, good, outcome.picture, outcome.place)

    def wake(self) -> None:
        """Nothing has to start."""

    def forget(self, track: int) -> None:
        self._decoders.forget(track)

    def shut_out(self, owner: str) -> bool:
        del owner
        return False

    def figures(self) -> dict[str, int | float]:
        return {}
