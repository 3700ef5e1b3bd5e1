"""What can go wrong below a call.

RtcError
├── SdpError            a description cannot be read, or asks for something impossible
├── NegotiationError    an offer or answer at the wrong moment
├── TransportError      ICE, DTLS or SCTP did not come up
└── PortTaken           the media port belongs to somebody else
"""

from __future__ import annotations

from typing import Final

MAX_TEXT_CHARS: Final = 300
"""Of an error about what the other side said: it may quote that, and goes into logs."""


class RtcError(Exception):
    """Base of everything this package raises on purpose."""


class SdpError(RtcError):
    """The session description cannot be read; the message names the line, in `MAX_TEXT_CHARS` at most."""

    def __init__(self, text: str) -> None:
        super().__init__(text if len(text) <= MAX_TEXT_CHARS else text[: MAX_TEXT_CHARS - 1] + "…")


class NegotiationError(RtcError):
    """An offer or answer came at the wrong moment."""


class TransportError(RtcError):
    """ICE found no pair, DTLS failed, or the remote fingerprint did not match."""


class PortTaken(RtcError, OSError):
    """The media port cannot be bound; the message names address and port."""
