"""The keys under which the jobs' tokens are stored, and what they do.

AES-256-GCM. Each token is bound to its job, client and site: moved to another row it cannot be read. There
may be several keys, the newest first: that one encrypts, any of them opens, so that keys can be changed while
replicas and workers run (docs/operations.md, ADR 20).
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from collections.abc import Iterator, Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

SHORTEST: Final = 32
"""Characters of a key."""
MOST_KEYS: Final = 8
"""Each message is sealed with each of them."""
_FORM: Final = b"\x01"
"""What follows: nonce, then ciphertext with its tag."""
_NONCE_BYTES: Final = 12
_WRAPPED: Final = (64, 76)
"""Characters of a full line from openssl and from base64."""
_BETWEEN: Final = re.compile(r"[,\r\n]+")


class SecretKey:
    """One key, and what is derived of it."""

    def __init__(self, text: str) -> None:
        """`text`: anything with the randomness of a key; its characters don't matter."""
        self._aead = AESGCM(_derived(text, b"calls-offloader job tokens"))
        self._mac_key = _derived(text, b"calls-offloader fingerprints")
        self._derive_key = _derived(text, b"calls-offloader derived keys")
        self.id = _derived(text, b"calls-offloader key id")[:4].hex()
        """By which people tell keys apart; tells nothing of it."""

    def encrypt(self, text: str, *, context: Sequence[str]) -> bytes:
        """`context`: what has to be named again to decrypt."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _FORM + nonce + self._aead.encrypt(nonce, text.encode(), _bound_to(context))

    def decrypt(self, data: bytes, *, context: Sequence[str]) -> str | None:
        """None: another key, another context, or damaged."""
        if data[:1] != _FORM:
            return None
        nonce, rest = data[1 : 1 + _NONCE_BYTES], data[1 + _NONCE_BYTES :]
        try:
            return self._aead.decrypt(nonce, rest, _bound_to(context)).decode()
        except (InvalidTag, ValueError):
            return None

    def fingerprint(self, text: str) -> str:
        """HMAC-SHA-256: what a secret is compared by where others can read it."""
        return hmac.new(self._mac_key, text.encode(), "sha256").hexdigest()

    def derived_text(self, purpose: str) -> str:
        """A key of its own for `purpose`, URL-safe: equal wherever the key is, and tells nothing of it."""
        derived = HKDFExpand(SHA256(), 32, info=purpose.encode()).derive(self._derive_key)
        return base64.urlsafe_b64encode(derived).rstrip(b"=").decode()


class Cipher:
    """Encrypts with the newest of its keys, and opens with any. One per process, shared by all who encrypt:
    `use` changes the keys of all of them at once, and may be called in any thread."""

    def __init__(self, newest: str, *older: str, former: Sequence[str] = ()) -> None:
        """`former`: keys that only open (see `former_readings`)."""
        self._keys = tuple(SecretKey(text) for text in (newest, *older))
        self._former = tuple(SecretKey(text) for text in former)

    @property
    def keys(self) -> tuple[SecretKey, ...]:
        """The newest first."""
        return self._keys

    @property
    def opening(self) -> tuple[SecretKey, ...]:
        """`keys`, and those that only open."""
        return (*self._keys, *self._former)

    def use(self, texts: Sequence[str]) -> None:
        """Go on with these keys, the newest first; at least one."""
        newest, *older = texts
        self.become(Cipher(newest, *older))

    def become(self, other: Cipher) -> None:
        """Go on with the keys of `other`, and no more."""
        self._keys, self._former = other._keys, other._former

    def encrypt(self, text: str, *, context: Sequence[str]) -> bytes:
        """See `SecretKey`; for what is kept."""
        return self._keys[0].encrypt(text, context=context)

    def encrypt_each(self, text: str, *, context: Sequence[str]) -> tuple[bytes, ...]:
        """Once with each key: for another host, which may not have them all yet, or any more."""
        return tuple(key.encrypt(text, context=context) for key in self._keys)

    def decrypt(self, data: bytes, *, context: Sequence[str]) -> str | None:
        """None: none of the keys, another context, or damaged."""
        return next(self._opened(data, context), None)

    def fingerprint(self, text: str) -> str:
        """See `SecretKey`."""
        return self._keys[0].fingerprint(text)

    def former_fingerprints(self, text: str) -> tuple[str, ...]:
        """What older keys would have made of it."""
        return tuple(key.fingerprint(text) for key in self.opening[1:])

    def derived_texts(self, purpose: str) -> tuple[str, ...]:
        """See `SecretKey.derived_text`; of each key, the newest first."""
        return tuple(key.derived_text(purpose) for key in self._keys)

    def accepted_texts(self, purpose: str) -> tuple[str, ...]:
        """`derived_texts`, and those of keys that only open."""
        return tuple(key.derived_text(purpose) for key in self.opening)

    def _opened(self, data: bytes, context: Sequence[str]) -> Iterator[str]:
        for key in self.opening:
            if (text := key.decrypt(data, context=context)) is not None:
                yield text


def keys_in(text: str) -> tuple[str, ...]:
    """The keys that are written there, the newest first, with commas or line ends between them; one, where
    all parts are too short, or the lines are those of wrapped base64.

    Raises:
        ValueError: there is none, one is too short, or there are too many; after the name of the place.
    """
    keys = tuple(key for piece in text.split(",") for key in _in_lines(piece))
    if keys and max(map(len, keys)) < SHORTEST <= len(text.strip()):
        return (text.strip(),)  # one with commas in it, such as a sentence
    if not keys:
        raise ValueError(f"no key: should be at least {SHORTEST} characters")
    if len(keys) > MOST_KEYS:
        raise ValueError(f"{len(keys)} keys: should be at most {MOST_KEYS}")
    for number, key in enumerate(keys, 1):
        if len(key) < SHORTEST:
            which = f"key {number} of {len(keys)}: " if len(keys) > 1 else ""
            raise ValueError(f"{which}{len(key)} characters: should be at least {SHORTEST}")
    return keys


def former_readings(text: str) -> tuple[str, ...]:
    """Keys that open, beside those that are read there: what releases that knew one alone took for it
    (`text`, or what stood there before keys were put in front), and each with and without a line end."""
    keys = keys_in(text)
    ends = (0, *(found.end() for found in _BETWEEN.finditer(text)))
    whole = (form for end in ends for form in (text[end:], text[end:].strip()))
    ended = (form for key in keys for form in (key, key + "\n"))
    return tuple(dict.fromkeys(one for one in (*whole, *ended) if len(one) >= SHORTEST))


def new_key() -> str:
    """256 random bits."""
    return secrets.token_urlsafe(32)


def _in_lines(piece: str) -> list[str]:
    """The keys of that many lines; one key alone where they are the wrapped lines of base64."""
    lines = [line.strip() for line in piece.splitlines() if line.strip()]
    full = bool(lines[1:]) and all(len(line) in _WRAPPED for line in lines[:-1])
    return [piece.strip()] if full and len(lines[-1]) < SHORTEST else lines


def _derived(key_text: str, purpose: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=purpose).derive(key_text.encode())


def _bound_to(context: Sequence[str]) -> bytes:
    """Unambiguous: lengths stand in front."""
    return b"".join(b"%d:%s" % (len(part.encode()), part.encode()) for part in context)
