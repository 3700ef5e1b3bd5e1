"""Deliberate faults: what a test of the checks does to a bot, so that the checks can be seen to fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from callclient.client import CallClient


class FaultError(ValueError):
    """A fault is not written as `delay:BOT:SECONDS`, `swap:BOT:BOT` or `key:BOT`."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What the truth does not tell."""

    delay_s: Mapping[str, float] = field(default_factory=dict)
    """Bots whose voice is sent this much later than the truth says."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Bots whose sentences the truth ascribes to another one."""
    wrong_key: frozenset[str] = frozenset()
    """Bots that encrypt their media with a key that nobody else has."""

    def author(self, bot: str) -> str:
        """Who said it, according to the truth."""
        return self.renamed.get(bot, bot)


def parse_faults(texts: Sequence[str], *, bots: Sequence[str]) -> Faults:
    """Read `--fault` values.

    Raises:
        FaultError: unknown form, bot, or a delay that is no number of seconds.
    """
    delay_s: dict[str, float] = {}
    renamed: dict[str, str] = {}
    wrong_key: set[str] = set()
    for text in texts:
        match text.split(":"):
            case ["delay", bot, seconds] if bot in bots and _is_number(seconds):
                delay_s[bot] = float(seconds)
            case ["swap", one, other] if one in bots and other in bots:
                renamed |= {one: other, other: one}
            case ["key", bot] if bot in bots:
                wrong_key.add(bot)
            case _:
                raise FaultError(
                    f"fault {text!r} should be delay:BOT:SECONDS, swap:BOT:BOT or key:BOT, "
                    f"with bots of {', '.join(bots)}"
                )
    return Faults(delay_s, renamed, frozenset(wrong_key))


def use_wrong_key(client: CallClient) -> None:
    """From now on nobody can authenticate the client's media. No public way leads there, and none should."""
    media = client._media
    assert media is not None, "the client should be in a call"
    dtls: Any = media._peer._dtls
    dtls._outbound = _WrongKey(dtls._outbound)


class _WrongKey:
    """An SRTP context whose authentication tags are another key's."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def protect_rtp(self, packet: bytes) -> bytes | None:
        return _with_other_tag(self._session.protect_rtp(packet))

    def protect_rtcp(self, packet: bytes) -> bytes | None:
        return _with_other_tag(self._session.protect_rtcp(packet))

    def forget(self, ssrc: int) -> None:
        self._session.forget(ssrc)


def _with_other_tag(protected: bytes | None) -> bytes | None:
    return protected and protected[:-1] + bytes([protected[-1] ^ 0xFF])


def _is_number(text: str) -> bool:
    try:
        return 0 <= float(text) <= 10
    except ValueError:
        return False
