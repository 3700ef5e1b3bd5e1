"""The decoding process: loads, confines itself, answers until nobody is there or nothing is left to do.

Started by `process` with the descriptors of a socket and of the shared memory as arguments, and with nothing
in its environment.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import sys
from typing import Final

import av

from foundation.resident import give_back_unused
from jobs.recorder.decoding.confinement import confine, prefer_for_killing
from jobs.recorder.decoding.faces import PictureRefused, face, warm_up
from jobs.recorder.decoding.frames import Decoders
from jobs.recorder.decoding.limits import PRIVATE_BYTES, REGION_BYTES, SLOT_BYTES
from jobs.recorder.decoding.wire import ANSWER, FRAME, GREETING, QUESTION, Ask, Verdict, receive

_IDLE_S: Final = 10.0
"""Without a track and a question for so long it ends: most calls have pictures of users at the start only."""
_QUESTION_CPU_S: Final = 1.0
"""Of the processor, for one question: what takes more goes in circles, and the kernel ends this process by
SIGPROF, also when the recorder has gone. A busy host makes it wait longer, not compute longer. Four frames of
noise at 1080p take 0.2 s, a picture of 16 million pixels 0.3 s."""


def main(socket_number: int, memory_number: int) -> None:
    """Until the other side of the socket closes, or nothing is to be done."""
    prefer_for_killing()
    end = socket.socket(fileno=socket_number)
    region = memoryview(mmap.mmap(memory_number, REGION_BYTES))
    os.close(memory_number)
    end.settimeout(_IDLE_S)
    warm_up()
    server = _Server(end, region)
    give_back_unused()
    refused = json.dumps(confine(REGION_BYTES + PRIVATE_BYTES)).encode()
    end.sendall(GREETING.pack(len(refused)) + refused)
    while True:
        try:
            if not server.answer_next():
                return
        except TimeoutError:
            if not server.has_tracks:
                return


class _Server:
    def __init__(self, end: socket.socket, region: memoryview) -> None:
        self._end, self._region = end, region
        self._decoders = Decoders()

    @property
    def has_tracks(self) -> bool:
        return len(self._decoders) > 0

    def answer_next(self) -> bool:
        """Wait for a question and answer it; False: nobody asks any more. Raises TimeoutError."""
        try:
            question = receive(self._end, QUESTION.size)
        except EOFError:
            return False
        ask, count, slot, track, size = QUESTION.unpack(question)
        data = memoryview(receive(self._end, size))
        signal.setitimer(signal.ITIMER_PROF, _QUESTION_CPU_S)  # its default is the process's end
        match ask:
            case Ask.FRAMES:
                self._end.sendall(self._frames(count, slot, track, data))
            case Ask.PICTURE:
                self._end.sendall(self._picture(slot, data))
            case _:
                self._decoders.forget(track)
        return True

    def _frames(self, count: int, slot: int, track: int, data: memoryview) -> bytes:
        frames = []
        for _ in range(count):
            codec, size = FRAME.unpack(data[: FRAME.size])
            frames.append((codec, bytes(data[FRAME.size : FRAME.size + size])))
            data = data[FRAME.size + size :]
        outcome = self._decoders.decode(track, frames)
        width = height = 0
        if outcome.picture is not None and slot >= 0:
            width, height = self._put(outcome.picture, slot)
        return ANSWER.pack(
            outcome.verdict, outcome.taken, outcome.shown, outcome.place, width, height
        )

    def _put(self, frame: av.VideoFrame, slot: int) -> tuple[int, int]:
        """Plane after plane without gaps. 4:2:0 has even sides: a last odd row or column is left out."""
        width, height = frame.width & ~1, frame.height & ~1
        at = slot * SLOT_BYTES
        for number, plane in enumerate(frame.planes):
            half = 1 if number == 0 else 2
            columns, rows, stride = width // half, height // half, plane.line_size
            values = memoryview(plane).cast("B")
            if stride == columns:
                self._region[at : at + columns * rows] = values[: columns * rows]
            else:
                for row in range(rows):
                    start = at + row * columns
                    self._region[start : start + columns] = values[
                        row * stride : row * stride + columns
                    ]
            at += columns * rows
        return width, height

    def _picture(self, slot: int, data: memoryview) -> bytes:
        try:
            pixels = face(bytes(data))
        except PictureRefused:
            return ANSWER.pack(Verdict.REFUSED, 1, 0, 0, 0, 0)
        except Exception:  # noqa: BLE001 - decoders raise anything for a hostile file
            return ANSWER.pack(Verdict.BROKEN, 1, 0, 0, 0, 0)
        side = round((len(pixels) // 3) ** 0.5)
        at = slot * SLOT_BYTES
        self._region[at : at + len(pixels)] = pixels
        return ANSWER.pack(Verdict.GOOD, 1, 1, 0, side, side)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
    os._exit(
        0
    )  # not by way of what closes the socket first: the recorder looks at the exit code then
