"""What the small model can hear: 97 words, alone, in random order and in sentences of meetings."""

from __future__ import annotations

import random
from typing import Final

# No two words that sound alike (to/two, for/four, week/weak): the model could not tell them apart.
_WORDS: Final = """
zero one two three four five six seven eight nine ten alice bob carol dave emma frank grace henry
monday tuesday wednesday thursday friday agenda budget report project summary meeting recording deadline
decision design server customer release update plan channel review send share finish write check start
stop hello welcome everyone good morning thanks thank you goodbye please action item notes team question
answer next week today tomorrow now yes no okay the is we will need and with on at any call status done
agree percent hours minutes open closed first second last new problem more
"""
WORDS: Final[tuple[str, ...]] = tuple(_WORDS.split())

# One letter in a template stands for any word of its line.
_SLOT_LINES: Final = """
P alice bob carol dave emma frank grace henry everyone
D monday tuesday wednesday thursday friday today tomorrow
T agenda budget report project summary meeting recording deadline decision design server customer release
T update plan channel review question answer problem status
N zero one two three four five six seven eight nine ten
O first second last new next
S open closed done
V send share finish write check start stop review update
"""
_SLOTS: Final[dict[str, list[str]]] = {}
for _line in _SLOT_LINES.strip().splitlines():
    _letter, *_choices = _line.split()
    _SLOTS.setdefault(_letter, []).extend(_choices)
_TEMPLATES: Final = (
    "hello P",
    "good morning everyone",
    "welcome everyone",
    "thank you P",
    "thanks P",
    "goodbye everyone",
    "okay P",
    "yes we agree",
    "no we need N more minutes",
    "V the T",
    "please V the T",
    "P will V the T on D",
    "we will V the T D",
    "the T is S",
    "the O T is S",
    "the T is on D",
    "the O T is on D",
    "any question P",
    "any more question on the T",
    "the O item on the agenda is the T",
    "we need the T D",
    "the T is N percent done",
    "we need N hours and N minutes",
    "P and P will V the T",
    "start the recording now",
    "stop the recording please",
    "the call is at N",
    "action item P will V the T",
    "next week we V the T",
    "the team will V the notes tomorrow",
    "the decision is done",
)


def sentence(random_source: random.Random) -> str:
    """Two in five from templates, the others random words, one to eight of them."""
    if random_source.random() < 0.4:
        return " ".join(
            random_source.choice(_SLOTS[word]) if word in _SLOTS else word
            for word in random_source.choice(_TEMPLATES).split()
        )
    return " ".join(random_source.choices(WORDS, k=random_source.randint(1, 8)))
