"""Who and where: the file that the stand-in writes for those who play in its world."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class WorldError(ValueError):
    """The world file cannot be used; the message names it and what is missing."""


@dataclass(frozen=True, slots=True)
class User:
    """A person of the stand-in."""

    name: str
    """Key in the world file; the bot's name."""
    user_id: str
    token: str = field(repr=False)
    username: str
    first_name: str
    last_name: str

    @property
    def tile_name(self) -> str:
        """As a tile shows it: both names, or the username (calls-plugin.md 7.5)."""
        if self.first_name and self.last_name:
            return f"{self.first_name} {self.last_name}"
        return self.username

    @property
    def transcript_name(self) -> str:
        """As a transcript shows it: either name will do (calls-plugin.md 8.5)."""
        return " ".join(filter(None, (self.first_name, self.last_name))) or self.username


@dataclass(frozen=True, slots=True)
class World:
    """The stand-in's channel and people."""

    channel_id: str
    host: str
    users: Mapping[str, User]


def read_world(path: Path) -> World:
    """Read `world.json`.

    Raises:
        WorldError: missing, unreadable or incomplete.
    """
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        users = {
            name: User(
                name=name,
                user_id=user["user_id"],
                token=user["token"],
                username=user["username"],
                first_name=user["first_name"],
                last_name=user["last_name"],
            )
            for name, user in document["users"].items()
        }
        return World(document["channel_id"], document["host"], users)
    except (OSError, ValueError) as error:
        raise WorldError(f"{path}: cannot be read: {error}") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise WorldError(f"{path}: {error} is missing or has the wrong form") from error
