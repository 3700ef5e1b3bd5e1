"""Deliberate faults: what a test of the checks does to a bot, so that the checks can be seen to fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


class FaultError(ValueError):
    """A fault is not written as `delay:BOT:SECONDS` or `swap:BOT:BOT`."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What the truth does not tell."""

    delay_s: Mapping[str, float] = field(default_factory=dict)
    """Bots whose voice is sent this much later than the truth says."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Bots whose sentences the truth ascribes to another one."""

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
    for text in texts:
        match text.split(":"):
            case ["delay", bot, seconds] if bot in bots and _is_number(seconds):
                delay_s[bot] = float(seconds)
            case ["swap", one, other] if one in bots and other in bots:
                renamed |= {one: other, other: one}
            case _:
                raise FaultError(
                    f"fault {text!r} should be delay:BOT:SECONDS or swap:BOT:BOT, "
                    f"with bots of {', '.join(bots)}"
                )
    return Faults(delay_s, renamed)


def _is_number(text: str) -> bool:
    try:
        return 0 <= float(text) <= 10
    except ValueError:
        return False
