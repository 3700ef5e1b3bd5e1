"""Where a datagram goes or comes from, without a socket in it."""

from __future__ import annotations

from typing import Literal, NamedTuple

Address = tuple[str, int]
"""IP address as text, normal form, and port."""

TransportName = Literal["udp", "tcp"]


class Path(NamedTuple):
    """A socket and a destination, by name; the layer that owns sockets knows which socket is meant.

    A named tuple, as it is hashed for every STUN datagram.
    """

    transport: TransportName
    local: Address
    """The *base* of a local candidate: what the socket is bound to, which may be ("0.0.0.0", 8443). For a
    TCP flow that the agent asked for: the address of its active candidate, and in place of the port, which
    nobody knows yet, a number that tells the flow from one before an ICE restart."""
    remote: Address

    def __str__(self) -> str:
        return f"{self.transport} {_text(self.local)} -> {_text(self.remote)}"


def _text(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
