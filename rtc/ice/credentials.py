"""Who may send checks to us."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass, field

MIN_OWN_UFRAG_LENGTH = 16
"""Of our own: on a port that many peers share, the ufrag alone finds the agent."""

_ICE_CHARACTERS = string.ascii_letters + string.digits
_PASSWORD_LENGTH = 32


@dataclass(frozen=True, slots=True)
class IceCredentials:
    """ufrag and password of one side (RFC 8839 section 5.4)."""

    ufrag: str
    password: str = field(repr=False)
    tag: str = ""
    """Of our own: what the ufrag and all transaction ids begin with."""

    @classmethod
    def generate(cls, tag: str = "") -> IceCredentials:
        """New ones from the system's random source: ufrag of 16 characters, password of 32.

        `tag`: at most 2 letters or digits, by which processes that share a port sort what comes in.
        """
        ufrag = tag + _random_text(MIN_OWN_UFRAG_LENGTH)
        return cls(ufrag, _random_text(_PASSWORD_LENGTH), tag)


def _random_text(length: int) -> str:
    return "".join(secrets.choice(_ICE_CHARACTERS) for _ in range(length))
