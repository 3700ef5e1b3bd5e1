"""Where the secret keys come from: the environment, else a private file. Made, read and changed there."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from foundation.logs import get_logger
from offloader.errors import StoreError
from offloader.store.secret_key import Cipher, former_readings, keys_in, new_key

VARIABLE: Final = "OFFLOADER_SECRET_KEY"

log = get_logger()


@dataclass(frozen=True, slots=True)
class KeyPlace:
    """Where the keys of a running process come from. Every method blocks."""

    environ: Mapping[str, str]
    file: Path

    @property
    def in_environment(self) -> bool:
        """The file is not looked at."""
        return bool(self.environ.get(VARIABLE))

    def read(self) -> tuple[str, ...]:
        """The keys, the newest first.

        Raises:
            StoreError: there is none, or one is of no use; names the place.
        """
        return self._text_and_keys()[1]

    def _text_and_keys(self) -> tuple[str, tuple[str, ...]]:
        if self.in_environment:
            try:
                text = self.environ[VARIABLE]
                keys = keys_in(text)
                return text, (keys if len(keys) > 1 else (text,))  # with blanks around it, as ever
            except ValueError as error:
                raise StoreError(
                    f"environment {VARIABLE}: {error}, such as the output of: openssl rand -base64 32"
                ) from error
        try:
            text = self.file.read_text(encoding="utf-8")
            return text, keys_in(text)
        except UnicodeError as error:
            raise StoreError(f"{self.file}: not UTF-8") from error
        except ValueError as error:
            raise StoreError(f"{self.file}: {error}") from error
        except OSError as error:
            raise StoreError(f"{self.file}: {error.strerror}") from error

    def cipher(self) -> Cipher:
        """Of the keys; opens as well what earlier releases encrypted with the whole text as one key.

        Raises:
            StoreError: see `read`.
        """
        text, keys = self._text_and_keys()
        return Cipher(*keys, former=[one for one in former_readings(text) if one not in keys])

    def write(self, keys: Sequence[str]) -> None:
        """Replace what the file holds at once, for its owner only. Raises OSError."""
        text = "".join(f"{key}\n" for key in keys)
        if any(len(key.splitlines()) > 1 or "," in key for key in keys):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))  # it would be read as several
        fresh = self.file.with_name(self.file.name + ".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            present = self.file.stat()
            if os.geteuid() == 0:  # the service goes on reading its own file
                os.fchown(descriptor, present.st_uid, present.st_gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.file)


def load_cipher(environ: Mapping[str, str], *, key_file: Path) -> Cipher:
    """From the environment, else from `key_file`, which is made when it is missing. Blocks.

    Without a key that can be kept, one for this run is used: its tokens are lost with the process.

    Raises:
        StoreError: a key of the environment is too short, or there are too many.
    """
    place = KeyPlace(environ, key_file)
    if place.in_environment:
        return place.cipher()
    try:
        return _cipher_of(place)
    except (OSError, StoreError) as error:
        log.warning("secrets.no_key_file", file=str(key_file), error=str(error))
        return Cipher(new_key())


def shared_cipher(environ: Mapping[str, str], *, key_file: Path) -> Cipher:
    """The keys of a service on another host: from the environment or from a copy of its file, never a new
    one. Blocks.

    Raises:
        StoreError: there is none, or one is too short.
    """
    place = KeyPlace(environ, key_file)
    try:
        return place.cipher()
    except StoreError as error:
        if place.in_environment:
            raise
        raise StoreError(
            f"{error}: copy the key file of the job service here, or set environment {VARIABLE} alike on both"
        ) from error


def _cipher_of(place: KeyPlace) -> Cipher:
    try:
        return Cipher(_make(place.file, new_key()))
    except FileExistsError:
        place.file.chmod(0o600)
    return place.cipher()


def _make(path: Path, key_text: str) -> str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(key_text + "\n")
        file.flush()
        os.fsync(file.fileno())
    return key_text
