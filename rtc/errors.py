"""What can go wrong below a call.

RtcError
├── SdpError            a description cannot be read, or asks for something impossible
├── NegotiationError    an offer or answer at the wrong moment
├── TransportError      ICE, DTLS or SCTP did not come up
└── PortTaken           the media port belongs to somebody else
"""

from __future__ import annotations


class RtcError(Exception):
    """Base of everything this package raises on purpose."""


class SdpError(RtcError):
    """The session description cannot be read; the message names the line."""


class NegotiationError(RtcError):
    """An offer or answer came at the wrong moment."""


class TransportError(RtcError):
    """ICE found no pair, DTLS failed, or the remote fingerprint did not match."""


class PortTaken(RtcError, OSError):
    """The media port cannot be bound; the message names address and port."""
