"""The key under which the jobs' tokens are stored, and what it does.

AES-256-GCM. Each token is bound to its job, client and site: moved to another row it cannot be read.
"""

from __future__ import annotations

import base64
import hmac
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from foundation.logs import get_logger
from offloader.errors import StoreError

VARIABLE: Final = "OFFLOADER_SECRET_KEY"
_SHORTEST: Final = 32
_FORM: Final = b"\x01"
"""What follows: nonce, then ciphertext with its tag."""
_NONCE_BYTES: Final = 12

log = get_logger()


class Cipher:
    """Encrypts under one key."""

    def __init__(self, key_text: str) -> None:
        """`key_text`: anything with the randomness of a key; its characters don't matter."""
        self._aead = AESGCM(_derived(key_text, b"calls-offloader job tokens"))
        self._mac_key = _derived(key_text, b"calls-offloader fingerprints")
        self._derive_key = _derived(key_text, b"calls-offloader derived keys")

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


def load_cipher(environ: Mapping[str, str], *, key_file: Path) -> Cipher:
    """From the environment, else from `key_file`, which is made when it is missing. Blocks.

    Without a key that can be kept, one for this run is used: its tokens are lost with the process.

    Raises:
        StoreError: the environment's key is too short.
    """
    if given := environ.get(VARIABLE):
        if len(given) < _SHORTEST:
            raise StoreError(
                f"environment {VARIABLE}: {len(given)} characters: should be at least {_SHORTEST}, "
                "such as the output of: openssl rand -base64 32"
            )
        return Cipher(given)
    try:
        return Cipher(_key_of(key_file))
    except (OSError, ValueError) as error:
        log.warning("secrets.no_key_file", file=str(key_file), error=str(error))
        return Cipher(_new_key())


def shared_cipher(environ: Mapping[str, str], *, key_file: Path) -> Cipher:
    """The key of a service on another host: from the environment or from a copy of its file, never a new one.
    Blocks.

    Raises:
        StoreError: there is none, or it is too short.
    """
    if environ.get(VARIABLE):
        return load_cipher(environ, key_file=key_file)
    try:
        return Cipher(_read(key_file))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StoreError(
            f"{key_file}: {reason}: copy the key file of the job service here, or set environment {VARIABLE} "
            "alike on both"
        ) from error


def _derived(key_text: str, purpose: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=purpose).derive(key_text.encode())


def _key_of(path: Path) -> str:
    try:
        return _write(path, _new_key())
    except FileExistsError:
        path.chmod(0o600)
    return _read(path)


def _read(path: Path) -> str:
    text = path.read_text(encoding="utf-8").strip()
    if len(text) < _SHORTEST:
        raise ValueError(f"it holds {len(text)} characters: should be at least {_SHORTEST}")
    return text


def _write(path: Path, key_text: str) -> str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(key_text + "\n")
        file.flush()
        os.fsync(file.fileno())
    return key_text


def _new_key() -> str:
    return secrets.token_urlsafe(32)


def _bound_to(context: Sequence[str]) -> bytes:
    """Unambiguous: lengths stand in front."""
    return b"".join(b"%d:%s" % (len(part.encode()), part.encode()) for part in context)
