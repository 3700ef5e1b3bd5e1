"""What goes over the wire when an SFU is asked for its candidates (rtcd.md 2.2): written and read, pure."""

from __future__ import annotations

import ipaddress
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgpack

SDP: Final = 2
ICE: Final = 1
_ID_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True)
class Candidate:
    """Where the SFU says that it can be reached."""

    transport: str
    """udp or tcp."""
    address: str
    port: int
    kind: str
    """host, srflx …"""

    @classmethod
    def parse(cls, line: str) -> Candidate | None:
        """A line of SDP (RFC 8839 section 5.1); None for what cannot be reached by checks from outside."""
        found = _CANDIDATE.search(line)
        if found is None or (found["transport"].lower() == "tcp" and "tcptype passive" not in line):
            return None
        port = int(found["port"])
        try:
            address = str(ipaddress.ip_address(found["address"]))
        except ValueError:
            return None
        return (
            cls(found["transport"].lower(), address, port, found["kind"]) if port < 65536 else None
        )


_CANDIDATE: Final = re.compile(
    r"candidate:\S+ 1 (?P<transport>udp|tcp) \d+ (?P<address>[0-9A-Fa-f.:]+) (?P<port>\d+) typ (?P<kind>\w+)",
    re.IGNORECASE,
)


def offer_sdp(ufrag: str, password: str) -> str:
    """A data channel and nothing else, as every client's first offer (calls-plugin.md 4.1)."""
    fingerprint = ":".join(f"{byte:02X}" for byte in secrets.token_bytes(32))
    return "\r\n".join(
        (
            "v=0",
            f"o=- {secrets.randbits(62)} 2 IN IP4 127.0.0.1",
            "s=-",
            "t=0 0",
            "a=group:BUNDLE 0",
            "a=msid-semantic:WMS *",
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
            "c=IN IP4 0.0.0.0",
            f"a=ice-ufrag:{ufrag}",
            f"a=ice-pwd:{password}",
            "a=ice-options:trickle",
            f"a=fingerprint:sha-256 {fingerprint}",
            "a=setup:actpass",
            "a=mid:0",
            "a=sctp-port:5000",
            "a=max-message-size:65536",
            "",
        )
    )


def sdp_value(sdp: str, name: str) -> str:
    """Of the first `a=name:`; empty where there is none."""
    found = re.search(rf"^a={name}:(\S+)", sdp, re.MULTILINE)
    return found[1] if found else ""


def frame(kind: str, body: Mapping[str, Any]) -> bytes:
    """Two values back to back (rtcd.md 2.2)."""
    packed: bytes = msgpack.packb(kind) + msgpack.packb(dict(body), use_bin_type=True)
    return packed


def unpacked(received: str | bytes) -> tuple[str, Mapping[str, Any]]:
    """Type and data; an empty type for what is no message."""
    if isinstance(received, str):
        return "", {}
    unpacker = msgpack.Unpacker(raw=False, max_buffer_size=1 << 20)
    try:
        unpacker.feed(received)
        kind, body = list(unpacker)
    except (ValueError, msgpack.UnpackException):
        return "", {}
    return str(kind), body if isinstance(body, Mapping) else {}


def json_mapping(data: bytes) -> Mapping[str, Any]:
    """Empty for anything else."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, Mapping) else {}


def random_id() -> str:
    """26 characters, as all ids on this wire."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(26))


def bracketed(host: str) -> str:
    """As in a URL."""
    return f"[{host}]" if ":" in host else host
