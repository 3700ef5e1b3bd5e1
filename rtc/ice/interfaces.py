"""Which addresses this host has."""

from __future__ import annotations

import ipaddress

import ifaddr


def local_addresses(*, ipv6: bool = False) -> list[str]:
    """Addresses of all interfaces that are up, loopback included, link-local left out."""
    found: list[str] = []
    for adapter in ifaddr.get_adapters():
        for entry in adapter.ips:
            text = entry.ip if isinstance(entry.ip, str) else entry.ip[0]
            address = ipaddress.ip_address(text)
            if address.is_link_local or (address.version == 6 and not ipv6):
                continue
            if text not in found:
                found.append(text)
    return found
