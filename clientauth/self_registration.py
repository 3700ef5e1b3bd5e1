"""Whose self-registration is accepted, where it is at all."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class SelfRegistration:
    """Narrows it; whoever is registered stays so."""

    clients: frozenset[str] = frozenset()
    """IDs that may; empty: any."""
    networks: tuple[Network, ...] = ()
    """Where they may come from; empty: from anywhere."""

    def why_refused(self, client_id: str, address: str) -> str:
        """Why this client may not register itself from there, after a subject; empty when it may."""
        if self.networks and not is_in(address, self.networks):
            return "its address is not in api.security.allowed_networks"
        if self.clients and client_id not in self.clients:
            return "it is not among api.security.allowed_clients"
        return ""


def is_in(address: str, networks: tuple[Network, ...]) -> bool:
    """Whether one of them holds the address; what is no address is in none."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped  # how a socket for both families writes it
    return any(parsed in network for network in networks)
