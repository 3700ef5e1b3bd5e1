"""Which addresses a server tells its peers, and where it listens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rtc.ice.candidate import host_candidate
from rtc.ice.path import TransportName
from rtc.net.network import LocalCandidate


@dataclass(frozen=True, slots=True)
class Announced:
    """An address that peers are told, and the local one behind it."""

    transport: TransportName
    host: str
    port: int
    """0: the port that was bound."""
    bind_host: str


@dataclass(frozen=True, slots=True)
class Listening:
    """A local address to listen on."""

    transport: TransportName
    host: str


def local_candidates(
    announced: Sequence[Announced], udp_port: int, tcp_port: int
) -> list[LocalCandidate]:
    """Host candidates, the first of each transport the preferred one."""
    found: list[LocalCandidate] = []
    for index, entry in enumerate(announced):
        bound = udp_port if entry.transport == "udp" else tcp_port
        candidate = host_candidate(
            entry.host,
            entry.port or bound,
            transport=entry.transport,
            tcptype="passive" if entry.transport == "tcp" else None,
            preference=(65535 if entry.transport == "udp" else 8191) - index,
        )
        found.append(LocalCandidate(candidate, (entry.bind_host, bound)))
    return found
