"""What an association tells its owner."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Message:
    """A whole message, its turn come."""

    stream: int
    protocol: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class StreamsReset:
    """The other side has reset its direction of these streams: it closes the channels on them."""

    streams: tuple[int, ...]
    """Empty: all of them."""


@dataclass(frozen=True, slots=True)
class StreamsFree:
    """Our direction of these streams is reset: they may be used for something else."""

    streams: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """The association is over; nothing comes after this."""

    reason: str
    failed: bool = False
    """The other side broke the protocol, or our limits."""


SctpEvent = Message | StreamsReset | StreamsFree | Ended
