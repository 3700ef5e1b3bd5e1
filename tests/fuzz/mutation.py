"""Changes inputs as fuzzers do, by a die that falls the same each time: for runs that must not surprise."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence

_WORDS = (0, 1, 2, 4, 8, 12, 16, 20, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF)
_MOST_CHANGES = 4


def mutations(
    inputs: Sequence[bytes], tokens: Sequence[bytes], *, seed: str, count: int, max_bytes: int
) -> Iterator[bytes]:
    """`count` inputs, each made of one or two of `inputs`."""
    die = random.Random(seed)
    for _ in range(count):
        data = bytearray(die.choice(inputs))
        for _ in range(die.randrange(1, _MOST_CHANGES + 1)):
            _change(die, data, inputs, tokens)
        yield bytes(data[:max_bytes])


def _change(
    die: random.Random, data: bytearray, inputs: Sequence[bytes], tokens: Sequence[bytes]
) -> None:
    at = die.randrange(len(data) + 1)
    match die.randrange(7):
        case 0:
            data[at : at + 1] = bytes([die.randrange(256)])
        case 1:
            data[at : at + 2] = struct.pack(">H", die.choice(_WORDS))
        case 2:
            del data[at : at + die.randrange(1, 17)]
        case 3:
            data[at:at] = data[at : at + die.randrange(1, 65)]
        case 4 if tokens:
            data[at : at + die.choice((0, 0, 4))] = die.choice(tokens)
        case 5:
            other = die.choice(inputs)
            data[at:] = other[die.randrange(len(other) + 1) :]
        case _:
            if at < len(data):
                data[at] ^= 1 << die.randrange(8)
