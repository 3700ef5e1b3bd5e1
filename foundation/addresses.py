"""Addresses that nobody's Mattermost has: what hands out a machine's own credentials lives there. Pure."""

from __future__ import annotations

import ipaddress
import re
import socket
import unicodedata
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA: Final = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "fd00:ec2::254",  # Amazon; its IPv4 one, as most others', is link-local
        "fd00:ec2::23",  # Amazon's credentials of pods
        "fd20:ce::254",  # Google
        "fd00:c1::a9fe:a9fe",  # Oracle
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure
        "192.0.0.192",  # Oracle
    )
)
_HOLDING_IPV4: Final = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "64:ff9b::/96",  # RFC 6052 section 2.1
        "64:ff9b:1::/48",  # RFC 8215, as most prefixes there are 96 bits long
        "::/96",  # RFC 4291 section 2.5.5.1
        "::ffff:0:0:0/96",  # RFC 2765 section 2.1, for stateless translators
    )
)
"""The last four bytes are an IPv4 address."""
_OLD_IPV4: Final = re.compile(r"[0-9a-fx]+(\.[0-9a-fx]+){0,3}", re.IGNORECASE)


def why_forbidden(text: str) -> str:
    """Why a site cannot be at that address; empty when it can, and for what is no address.

    Loopback and private addresses are where a Mattermost of one's own is.
    """
    try:
        address = _inner(_parsed(text))
    except ValueError:
        return ""
    if address in _METADATA:
        return "it is a cloud's metadata service"
    if address.is_link_local:
        return "it is link-local, where clouds have their metadata services"
    if address.is_multicast:
        return "it is a multicast address"
    if address.is_unspecified or str(address) == "255.255.255.255":
        return "it is no host's address"
    return ""


def _parsed(text: str) -> Address:
    """As a resolver or a proxy reads it: `2852039166`, `0xA9FEA9FE` and `0251.254.43518` are addresses, too,
    also with a dot at their end or in other scripts' digits. Raises ValueError."""
    text = unicodedata.normalize("NFKC", text).replace("\u3002", ".").removesuffix(".")
    if _OLD_IPV4.fullmatch(text):
        try:
            return ipaddress.IPv4Address(socket.inet_aton(text))
        except OSError as error:
            raise ValueError from error
    return ipaddress.ip_address(text.partition("%")[0])


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, if it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if int(address) and any(address in network for network in _HOLDING_IPV4):
        return ipaddress.IPv4Address(address.packed[12:])
    return address.sixtofour or address
