"""The recorder's side of decoding: starts the process when there is something to decode, and again when it is
lost; tells everybody then; and ceases to decode what makes it end again and again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from callclient.receive.decoders import DECODERS
from callclient.receive.tracks import Codec
from foundation.logs import get_logger
from jobs.recorder.decoding.limits import FACE_PX, FRAME_BYTES, PICTURE_BYTES, frame_fits
from jobs.recorder.decoding.process import Answer, DecodingProcess, ProcessLost
from jobs.recorder.decoding.slots import Slots
from jobs.recorder.decoding.wire import Verdict

if TYPE_CHECKING:
    import av

_STRIKES: Final = 3
"""So often within `_STRIKES_S` may one source lose the process; then nothing of it is decoded any more."""
_STRIKES_S: Final = 60.0
_REST_S: Final = 5.0
"""Before another start after one that came to nothing."""
_log = get_logger(component="decoder")


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of some frames of a track."""

    taken: int = 0
    """So many of them; the rest has to be given again, or is worth nothing when `good` is False."""
    shown: int = 0
    """So many were to be shown."""
    good: bool = True
    """False: nothing more can be decoded before a key frame."""
    picture: av.VideoFrame | None = None
    """The newest, YUV 4:2:0 in BT.601 with limited range, if there is one."""
    place: int = 0
    """Which of the frames it is of."""


LOST: Final = Decoded(good=False)


class FrameDecoder(Protocol):
    """What a track needs. Blocking; never raises for what frames hold."""

    @property
    def generation(self) -> int:
        """Another one: all tracks begin anew with a key frame."""

    def decode(self, track: int, owner: str, frames: Sequence[tuple[Codec, bytes]]) -> Decoded:
        """Frames of one track in order; `owner`: whom a loss of the process is put down to."""

    def wake(self) -> None:
        """There will be something to decode soon. Does not wait."""

    def forget(self, track: int) -> None:
        """It is over."""

    def shut_out(self, owner: str) -> bool:
        """Is nothing of `owner` decoded any more?"""

    def figures(self) -> dict[str, int | float]:
        """Counters for the metrics line."""


class Decoder:
    """For one recording; from any thread, one after another. `close` at the end.

    Only what `decode` and `face` need is loaded here, and no process started before the first of them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: Slots | None = None
        self._process: DecodingProcess | None = None
        self._closed = False
        self.generation = 0
        self.starts = 0
        """Of processes, in all."""
        self.losses = 0
        """Processes that ended, hung or answered nonsense."""
        self.refused = 0
        """Frames and pictures larger than is taken, or of a kind that is not."""
        self.pictures_dropped = 0
        """Decoded frames for which there was no room."""
        self._resting_until_s = 0.0
        self._strikes: dict[str, deque[float]] = {}
        self._shut_out: set[str] = set()

    @property
    def process_id(self) -> int | None:
        """None: there is none now."""
        process = self._process
        return process.pid if process is not None else None

    def wake(self) -> None:
        """There will be something to decode soon: start the process, and do not wait for it."""
        with self._lock:
            if self._process is not None and self._process.ended_by_itself:
                self._process.end()
                self._process = None
            if self._process is None:
                self._start()

    def shut_out(self, owner: str) -> bool:
        """Is nothing of `owner` decoded any more?"""
        return owner in self._shut_out

    def decode(self, track: int, owner: str, frames: Sequence[tuple[Codec, bytes]]) -> Decoded:
        """See `FrameDecoder`."""
        if owner in self._shut_out:
            return LOST
        named = [(DECODERS[codec], data) for codec, data in frames]
        if any(len(data) > FRAME_BYTES for _, data in named):
            self.refused += 1
            return LOST
        with self._lock:
            slot = self._slot()
            if slot is None:
                self.pictures_dropped += 1
            answer = self._asked(owner, lambda process: process.frames(track, named, slot))
            picture = None
            if slot is not None:
                picture = self._picture(answer, slot) if answer is not None else None
                if picture is None:
                    self._give_back(slot)
        if answer is None:
            return LOST
        if answer.verdict is Verdict.REFUSED:
            self.refused += 1
        good = answer.verdict is Verdict.GOOD
        taken = min(max(answer.taken, 1), len(frames))
        place = min(answer.place, taken - 1)
        return Decoded(taken, answer.shown, good, picture, place)

    def face(self, data: bytes) -> bytes:
        """RGB of a small square of a user's picture, row after row; empty if there is no usable one."""
        if len(data) > PICTURE_BYTES:
            self.refused += 1
            _log.warning("picture.too_large", bytes=len(data))
            return b""
        with self._lock:
            slot = self._slot()
            if slot is None:
                self.pictures_dropped += 1
                return b""
            answer = self._asked("", lambda process: process.picture(data, slot))
            if answer is not None and answer.verdict is Verdict.GOOD and self._slots is not None:
                side = max(1, min(answer.width, FACE_PX))
                return self._slots.view(slot, side * side * 3).tobytes()
            self._give_back(slot)
        reason = "crash" if answer is None else answer.verdict.name.lower()
        self.refused += reason == "refused"
        _log.warning("picture.unusable", reason=reason)
        return b""

    def forget(self, track: int) -> None:
        """Of a track that is over."""
        with self._lock:
            if self._process is None:
                return
            with suppress(ProcessLost):  # whoever asks next is told
                self._process.forget(track)
            if self._slots is not None:
                self._slots.drop_unused()

    def close(self) -> None:
        """Nothing is decoded any more."""
        self._closed = True
        if (process := self._process) is not None:
            process.kill()  # who waits for an answer waits no longer
        with self._lock:
            if self._process is not None:
                self._process.end()
                self._process = None
            if self._slots is not None:
                self._slots.close()
                self._slots = None

    def figures(self) -> dict[str, int | float]:
        """Counters for the metrics line."""
        return {
            "decoder_starts": self.starts,
            "decoder_losses": self.losses,
            "videos_shut_out": len(self._shut_out),
            "media_refused": self.refused,
            "pictures_dropped": self.pictures_dropped,
        }

    def _asked(self, owner: str, ask: Callable[[DecodingProcess], Answer]) -> Answer | None:
        """None: there is no process, or it was lost."""
        for first in (True, False):
            if self._process is None and not self._start():
                return None
            process = self._process
            assert process is not None
            try:
                return ask(process)
            except ProcessLost as error:
                code = process.end()
                self._process = None
                if self._closed:
                    return None
                if code == 0 and first:
                    continue  # it had nothing to do, and ended while this was on its way
                self._lost(owner if process.greeted else "", str(error), code)
                if process.greeted:
                    self._start()
                else:
                    self._resting_until_s = time.monotonic() + _REST_S
                return None
        return None

    def _start(self) -> bool:
        if self._closed or time.monotonic() < self._resting_until_s:
            return False
        try:
            if self._slots is None:
                self._slots = Slots()
            self._process = DecodingProcess(self._slots.file_number)
        except OSError as error:
            self._resting_until_s = time.monotonic() + _REST_S
            _log.error("decoder.not_started", reason=error.strerror)
            return False
        self.starts += 1
        return True

    def _lost(self, owner: str, reason: str, code: int) -> None:
        self.losses += 1
        self.generation += 1
        _log.warning("decoder.lost", reason=reason, exit_code=code, source=owner or None)
        if not owner:
            return
        now_s = time.monotonic()
        self._strikes = {
            name: times for name, times in self._strikes.items() if now_s - times[-1] < _STRIKES_S
        }
        times = self._strikes.setdefault(owner, deque(maxlen=_STRIKES))
        times.append(now_s)
        if len(times) == _STRIKES and now_s - times[0] < _STRIKES_S:
            self._shut_out.add(owner)
            _log.warning("decoder.shut_out", source=owner, losses=_STRIKES)

    def _slot(self) -> int | None:
        if self._slots is None and not self._start():
            return None
        assert self._slots is not None
        return self._slots.take()

    def _give_back(self, slot: int | None) -> None:
        if slot is not None and self._slots is not None:
            self._slots.give_back(slot)

    def _picture(self, answer: Answer, slot: int) -> av.VideoFrame | None:
        """What lies in the slot, which is given back when nobody looks at it any more."""
        width, height = answer.width, answer.height
        if width % 2 or height % 2 or not frame_fits(width, height):
            return None  # none, or what no decoder of ours says
        from av.video.reformatter import ColorRange, Colorspace

        from jobs.recorder.planes import frame_of

        assert self._slots is not None
        values = self._slots.view(slot, width * height * 3 // 2)
        frame = frame_of(values.reshape(height * 3 // 2, width))
        frame.colorspace, frame.color_range = Colorspace.ITU601, ColorRange.MPEG
        return frame
