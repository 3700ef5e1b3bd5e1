"""Profiles as Go's pprof has them: gzipped protobuf (profile.proto of google/pprof), and as text."""

from __future__ import annotations

import gzip
from typing import Final

from sfu.stacks import Frame, Samples, Stack

Units = tuple[tuple[str, str], tuple[str, str]]
"""Type and unit of the two numbers of a sample, such as `("samples", "count"), ("cpu", "nanoseconds")`."""

_SAMPLE_TYPE: Final = 1
_SAMPLE: Final = 2
_LOCATION: Final = 4
_FUNCTION: Final = 5
_STRING_TABLE: Final = 6
_TIME_NS: Final = 9
_DURATION_NS: Final = 10


def as_text(samples: Samples) -> str:
    """One line for each stack, the largest first: outermost frame to innermost, and both numbers."""
    lines = [
        f"{';'.join(_frame_text(frame) for frame in stack)} {times} {amount}\n"
        for stack, (times, amount) in sorted(
            samples.items(), key=lambda entry: entry[1][1], reverse=True
        )
    ]
    return "".join(lines)


def as_protobuf(samples: Samples, units: Units, *, time_ns: int, duration_ns: int = 0) -> bytes:
    """What `go tool pprof` and its relatives read. `time_ns`: when it was taken, since the epoch."""
    profile = _Profile()
    for kind, unit in units:
        profile.field(
            _SAMPLE_TYPE, _numbers(1, profile.text(kind)) + _numbers(2, profile.text(unit))
        )
    for stack, amounts in samples.items():
        profile.sample(stack, amounts)
    return profile.finish(time_ns, duration_ns)


class _Profile:
    """A Profile message that grows; texts, functions and locations are numbered as they come."""

    def __init__(self) -> None:
        self._out = bytearray()
        self._texts: dict[str, int] = {"": 0}
        self._functions: dict[tuple[str, str], int] = {}
        self._locations: dict[Frame, int] = {}

    def text(self, text: str) -> int:
        return self._texts.setdefault(text, len(self._texts))

    def field(self, number: int, message: bytes) -> None:
        self._out += _bytes(number, message)

    def sample(self, stack: Stack, amounts: tuple[int, int]) -> None:
        locations = [self._location(frame) for frame in reversed(stack)]  # the innermost is first
        packed = _bytes(1, b"".join(map(_varint, locations)))
        self.field(_SAMPLE, packed + _bytes(2, b"".join(map(_varint, amounts))))

    def finish(self, time_ns: int, duration_ns: int) -> bytes:
        for text in self._texts:
            self.field(_STRING_TABLE, text.encode("utf-8", "replace"))
        self._out += _numbers(_TIME_NS, time_ns) + _numbers(_DURATION_NS, duration_ns)
        return gzip.compress(bytes(self._out), compresslevel=6)

    def _location(self, frame: Frame) -> int:
        found = self._locations.get(frame)
        if found is None:
            function, file, line = frame
            found = self._locations[frame] = len(self._locations) + 1
            where = _numbers(1, self._function(function or f"{file}:{line}", file))
            self.field(_LOCATION, _numbers(1, found) + _bytes(4, where + _numbers(2, line)))
        return found

    def _function(self, name: str, file: str) -> int:
        found = self._functions.get((name, file))
        if found is None:
            found = self._functions[name, file] = len(self._functions) + 1
            text, source = self.text(name), self.text(file)
            parts = _numbers(1, found) + _numbers(2, text) + _numbers(3, text) + _numbers(4, source)
            self.field(_FUNCTION, parts)
        return found


def _frame_text(frame: Frame) -> str:
    function, file, line = frame
    place = f"{file}:{line}" if file else ""
    return " ".join(part for part in (function, place) if part).replace(";", ",")


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative ones as two's complement
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _numbers(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value
