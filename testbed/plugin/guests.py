"""People who type a name into the page: each gets an account of their own."""

from __future__ import annotations

import unicodedata
from typing import Final

from testbed.plugin.world import User, World, random_id

MAX_NAME_CHARACTERS: Final = 64
MAX_ACCOUNTS: Final = 500
_IN_USERNAMES: Final = "-._"


class NameRefused(ValueError):
    """Nobody can come in under that name; the message says why."""


def add_guest(world: World, name: object) -> User:
    """A new account: the last word of `name` is the last name, a single word is the username.

    Raises:
        NameRefused: no text, too long, without a letter or digit, or there are too many accounts.
    """
    if not isinstance(name, str):
        raise NameRefused(f"name: should be a text, got {name!r}")
    words = "".join(
        c if c.isprintable() else " " for c in unicodedata.normalize("NFC", name)
    ).split()
    shown = " ".join(words)
    plain = _username(words)
    if not plain:
        raise NameRefused("name: should have a letter or a digit in it")
    if len(shown) > MAX_NAME_CHARACTERS:
        raise NameRefused(f"name: should have at most {MAX_NAME_CHARACTERS} characters")
    if len(world.users) >= MAX_ACCOUNTS:
        raise NameRefused(f"there are {MAX_ACCOUNTS} accounts already: start the stand-in anew")
    first, last = (" ".join(words[:-1]), words[-1]) if len(words) > 1 else ("", "")
    user = User(random_id(), _free(world, plain), first, last, random_id())
    world.users[user.username] = user
    return user


def _username(words: list[str]) -> str:
    """Letters and digits of any script; a single word keeps its form, since it is what others read."""
    kept = ["".join(c for c in word if c.isalnum() or c in _IN_USERNAMES) for word in words]
    text = ".".join(filter(None, kept))
    if not any(c.isalnum() for c in text):
        return ""
    return text if len(words) == 1 else text.lower()


def _free(world: World, username: str) -> str:
    taken = {user.username for user in world.everybody()}
    number, free = 1, username
    while free in taken:
        number += 1
        free = f"{username}-{number}"
    return free
