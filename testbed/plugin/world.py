"""Who and what exists in the stand-in: a team, a channel, users, the bot, and their tokens."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foundation.identifiers import new_id

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_PEOPLE = (
    ("alice", "Alice", "Adams"),
    ("bob", "Bob", "Brown"),
    ("carol", "Carol", "Clark"),
    ("dave", "", ""),
)


def random_id() -> str:
    """26 characters a–z and 0–9: users, channels, posts, files, tokens, connections (section 0)."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(26))


@dataclass(slots=True, eq=False)
class User:
    """One account; the same object for its whole life."""

    user_id: str
    username: str
    first_name: str
    last_name: str
    token: str = field(repr=False)
    """The newest one; see `World.renew_token`."""

    def profile(self) -> dict[str, Any]:
        """As the API shows it; secret fields are blank (section 5.2)."""
        return {
            "id": self.user_id,
            "username": self.username,
            "first_name": self.first_name,
            "last_name": self.last_name,
            "nickname": "",
            "email": f"{self.username}@example.com",
            "auth_data": "",
            "auth_service": "",
            "roles": "system_user",
        }


@dataclass(slots=True)
class World:
    """One team with one channel; `alice` starts calls and is the host."""

    team_id: str
    channel_id: str
    channel_name: str
    bot: User
    users: dict[str, User]
    """By username."""
    revoked: set[str] = field(default_factory=set)
    """Tokens that no longer count."""

    @classmethod
    def create(cls, people: Path | None = None) -> World:
        """`people`: a file of other names, if it is there: JSON, `{"alice": [first, last]}`."""
        names = {u: (first, last) for u, first, last in _PEOPLE}
        if people is not None and people.is_file():
            names |= json.loads(people.read_text(encoding="utf-8"))
        users = {
            u: User(random_id(), u, first, last, random_id()) for u, (first, last) in names.items()
        }
        return cls(
            team_id=random_id(),
            channel_id=random_id(),
            channel_name="Town Square",
            bot=User(random_id(), "calls", "", "", random_id()),
            users=users,
        )

    def everybody(self) -> list[User]:
        return [*self.users.values(), self.bot]

    def by_token(self, token: str) -> User | None:
        """Whose token it is; None for an unknown or revoked one."""
        if token in self.revoked:
            return None
        given = token.encode(errors="replace")
        return next(
            (u for u in self.everybody() if secrets.compare_digest(u.token.encode(), given)), None
        )

    def renew_token(self, user: User) -> None:
        """The old token ends, a new one begins: what a restart of the plugin does for the bot (trap 49)."""
        self.revoked.add(user.token)
        user.token = random_id()

    def by_id(self, user_id: str) -> User | None:
        return next((u for u in self.everybody() if u.user_id == user_id), None)

    def save(self, path: Path) -> None:
        """Write ids and tokens for the demo, readable by nobody else."""
        document = {
            "team_id": self.team_id,
            "channel_id": self.channel_id,
            "channel_name": self.channel_name,
            "host": "alice",
            "bot": {"user_id": self.bot.user_id, "token": self.bot.token},
            "users": {
                name: {
                    "user_id": user.user_id,
                    "token": user.token,
                    "username": user.username,
                    "first_name": user.first_name,
                    "last_name": user.last_name,
                }
                for name, user in self.users.items()
            },
        }
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)


def new_call_id() -> str:
    """A call's own id, which jobs never need (trap 1)."""
    return new_id()
