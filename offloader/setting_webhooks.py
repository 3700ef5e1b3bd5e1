"""`notify.webhooks`: whom to tell of each change of a job's state, read and checked (docs/webhooks.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from foundation.addresses import why_forbidden
from foundation.layered_config import ConfigError
from offloader.setting_broker import is_loopback

SHORTEST_SECRET: Final = 32
"""Characters."""
_MOST: Final = 16
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_MEMBERS: Final = frozenset({"url", "secret", "secret_file", "allow_http"})


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """One receiver of events."""

    name: str
    url: str = field(repr=False)
    """It may hold a key."""
    secret: str = field(repr=False)
    """Empty: it is in `secret_file`."""
    secret_file: Path | None = None

    def read_secret(self) -> bytes:
        """What events are signed with. Blocks.

        Raises:
            ConfigError: its file cannot be read, or holds too little.
        """
        if self.secret_file is None:
            return self.secret.encode()
        place = f"notify.webhooks: {self.name}.secret_file = {str(self.secret_file)!r}"
        try:
            text = self.secret_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no UTF-8"
            raise ConfigError(f"{place}: {reason}") from error
        if len(text) < SHORTEST_SECRET:
            raise ConfigError(
                f"{place}: {len(text)} characters: should be at least {SHORTEST_SECRET}"
            )
        return text.encode()


def parse_webhooks(table: Mapping[str, Any]) -> tuple[WebhookSettings, ...]:
    """The receivers, by name.

    Raises:
        ValueError: names the receiver and the member that cannot be used, and no value, for it may be a key.
    """
    if len(table) > _MOST:
        raise ValueError(f"{len(table)} receivers: should be at most {_MOST}")
    return tuple(_webhook(name, value) for name, value in sorted(table.items()))


def _webhook(name: str, value: Any) -> WebhookSettings:
    if not _NAME.fullmatch(name):
        raise _unfit("name", "1 to 63 letters, digits, hyphens or underscores")
    if not isinstance(value, Mapping) or value.keys() - _MEMBERS:
        raise _unfit(name, f"a table of {', '.join(sorted(_MEMBERS))}")
    url, secret, file = (value.get(member, "") for member in ("url", "secret", "secret_file"))
    allow_http = value.get("allow_http", False)
    if not isinstance(allow_http, bool):
        raise _unfit(f"{name}.allow_http", "true or false")
    if not isinstance(url, str) or not _usable(url, allow_http=allow_http):
        raise _unfit(
            f"{name}.url",
            "https://HOST/…, no link-local address; http:// on this host, or with allow_http = true",
        )
    if not isinstance(file, str) or not isinstance(secret, str) or bool(file) == bool(secret):
        raise _unfit(f"{name}.secret", "a text, or secret_file a path, and not both")
    if secret and len(secret) < SHORTEST_SECRET:
        raise _unfit(f"{name}.secret", f"at least {SHORTEST_SECRET} characters")
    return WebhookSettings(name, url, secret, Path(file).absolute() if file else None)


def _unfit(member: str, wanted: str) -> ValueError:
    return ValueError(f"{member}: should be {wanted}")


def _usable(url: str, *, allow_http: bool) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    plain = any(character.isspace() for character in url) or not url.isascii()
    if plain or not host or why_forbidden(host) or parts.username is not None or parts.fragment:
        return False
    return parts.scheme == "https" or _may_be_plain(parts, host, allow_http=allow_http)


def _may_be_plain(parts: SplitResult, host: str, *, allow_http: bool) -> bool:
    return parts.scheme == "http" and (allow_http or is_loopback(host))
