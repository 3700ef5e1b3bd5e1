"""ICE candidates: what SDP says of them (RFC 8839 section 5.1, RFC 6544 section 4.5), and priorities."""

from __future__ import annotations

import ipaddress
import zlib
from dataclasses import dataclass
from typing import Literal, cast, get_args

from rtc.errors import RtcError
from rtc.ice.path import Address, TransportName

CandidateType = Literal["host", "srflx", "prflx", "relay"]
TcpType = Literal["active", "passive", "so"]

TCP_ACTIVE_PORT = 9
"""What an active candidate writes for a port it does not have yet (RFC 6544 section 4.5)."""

_TYPE_PREFERENCES: dict[CandidateType, int] = {"host": 126, "prflx": 110, "srflx": 100, "relay": 0}
"""RFC 8445 section 5.1.2.2."""
_TCP_PENALTY = 27
"""Taken off the type preference: UDP of the same kind comes first; a direct TCP flow still before a relay."""
_DIRECTION_PREFERENCES: dict[str, dict[TcpType, int]] = {
    "direct": {"active": 6, "passive": 4, "so": 2},
    "reflexive": {"so": 6, "active": 4, "passive": 2},
}
"""RFC 6544 section 4.2."""
_MAX_LINE_LENGTH = 512


class CandidateError(RtcError, ValueError):
    """The candidate line cannot be read; the message names the field."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One transport address that one side can be reached at."""

    foundation: str
    component: int
    transport: TransportName
    priority: int
    host: str
    """IP address in normal form, or a host name (mDNS, say), which no check can be sent to."""
    port: int
    type: CandidateType
    related: Address | None = None
    """raddr and rport."""
    tcptype: TcpType | None = None
    ufrag: str | None = None
    """Of the ICE generation it belongs to, where the sender says so (RFC 8838 section 4.4)."""

    @classmethod
    def parse(cls, line: str) -> Candidate:
        """Read a line with or without `a=` and `candidate:` in front.

        Raises:
            CandidateError: a field is missing or wrong, or the transport is not UDP or TCP.
        """
        text = line.strip().removeprefix("a=").removeprefix("candidate:")
        words = text.split()
        if len(text) > _MAX_LINE_LENGTH or len(words) < 8 or words[6].lower() != "typ":
            raise CandidateError(
                "candidate: wanted 'foundation component transport priority host port typ type …'"
            )
        extensions = dict(zip(words[8::2], words[9::2], strict=False))
        transport = _one_of("transport", words[2].lower(), get_args(TransportName))
        tcptype = extensions.get("tcptype")
        if transport == "tcp":
            tcptype = _one_of("tcptype", tcptype or "", get_args(TcpType))
        return cls(
            foundation=words[0],
            component=_number("component", words[1], 1, 256),
            transport=cast(TransportName, transport),
            priority=_number("priority", words[3], 0, 0xFFFFFFFF),
            host=_normal_host(words[4]),
            port=_number("port", words[5], 0, 65535),
            type=cast(CandidateType, _one_of("type", words[7].lower(), get_args(CandidateType))),
            related=_related(extensions),
            tcptype=cast(TcpType, tcptype) if transport == "tcp" else None,
            ufrag=extensions.get("ufrag"),
        )

    def format(self) -> str:
        """The line without `candidate:` in front."""
        parts = [
            f"{self.foundation} {self.component} {self.transport} {self.priority}",
            f"{self.host} {self.port} typ {self.type}",
        ]
        if self.related is not None:
            parts.append(f"raddr {self.related[0]} rport {self.related[1]}")
        if self.tcptype is not None:
            parts.append(f"tcptype {self.tcptype}")
        if self.ufrag is not None:
            parts.append(f"ufrag {self.ufrag}")
        return " ".join(parts)

    @property
    def address(self) -> Address:
        return self.host, self.port

    @property
    def is_reachable(self) -> bool:
        """Is this a unicast IP address, and a port, that a check could be sent to?"""
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return self.port > 0 and not (address.is_multicast or address.is_unspecified)


def host_candidate(
    host: str,
    port: int,
    *,
    transport: TransportName = "udp",
    tcptype: TcpType | None = None,
    preference: int = 65535,
) -> Candidate:
    """One of ours. `preference` tells several addresses apart: up to 65535, for TCP up to 8191."""
    return Candidate(
        foundation=foundation("host", transport, host),
        component=1,
        transport=transport,
        priority=candidate_priority("host", transport, tcptype, preference=preference),
        host=host,
        port=port,
        type="host",
        tcptype=tcptype,
    )


def foundation(
    type: CandidateType, transport: TransportName, base_host: str, server: str = ""
) -> str:
    """The same for candidates of one type, base address, transport and server (RFC 8445 section 5.1.1.3)."""
    return str(zlib.crc32(f"{type} {transport} {base_host} {server}".encode()))


def candidate_priority(
    type: CandidateType,
    transport: TransportName = "udp",
    tcptype: TcpType | None = None,
    *,
    preference: int = 65535,
) -> int:
    """RFC 8445 section 5.1.2.1 for component 1, with the local preference of RFC 6544 section 4.2 for TCP."""
    type_preference = _TYPE_PREFERENCES[type]
    local_preference = min(preference, 65535)
    if transport == "tcp":
        type_preference = max(0, type_preference - _TCP_PENALTY)
        kind = "reflexive" if type in ("srflx", "prflx") else "direct"
        direction = _DIRECTION_PREFERENCES[kind][tcptype or "active"]
        local_preference = direction << 13 | min(preference, 0x1FFF)
    return type_preference << 24 | local_preference << 8 | 255


def reflexive_priority(priority: int, transport: TransportName) -> int:
    """What the PRIORITY attribute of a check says: the same candidate as `prflx` (RFC 8445 section 7.1.1)."""
    type_preference = _TYPE_PREFERENCES["prflx"] - (_TCP_PENALTY if transport == "tcp" else 0)
    return type_preference << 24 | priority & 0xFFFFFF


def pair_priority(controlling: int, controlled: int) -> int:
    """Of a pair, from the priorities of both sides' candidates (RFC 8445 section 6.1.2.3)."""
    return (
        (min(controlling, controlled) << 32)
        + 2 * max(controlling, controlled)
        + (controlling > controlled)
    )


def _normal_host(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _related(extensions: dict[str, str]) -> Address | None:
    if "raddr" not in extensions:
        return None
    return extensions["raddr"], _number("rport", extensions.get("rport", "0"), 0, 65535)


def _number(name: str, text: str, low: int, high: int) -> int:
    # int() alone would take "1_0", "+1" and digits of other scripts, of any length.
    if not (text.isascii() and text.isdigit() and len(text) <= 10 and low <= int(text) <= high):
        raise CandidateError(f"candidate: {name} {text[:40]!r} is no number of {low} to {high}")
    return int(text)


def _one_of(name: str, text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise CandidateError(f"candidate: {name} {text[:40]!r} is none of {', '.join(choices)}")
    return text
