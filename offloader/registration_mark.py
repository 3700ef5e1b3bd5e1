"""The mark of a client's registration: what its jobs carry, and what the right key is known by at once."""

from __future__ import annotations

import json

from offloader.store.secret_key import Cipher


def registration_mark(cipher: Cipher, client_id: str, key: str) -> str:
    """HMAC-SHA-256 of both: the same whenever the same client registers with the same key, and nobody makes
    or guesses one from the database alone."""
    return cipher.fingerprint(_text(client_id, key))


def former_marks(cipher: Cipher, client_id: str, key: str) -> tuple[str, ...]:
    """The marks of the same under older secret keys of the service."""
    return cipher.former_fingerprints(_text(client_id, key))


def _text(client_id: str, key: str) -> str:
    return json.dumps(["registration", client_id, key])
