"""The parts that are taken over while a process runs: configuration, certificate, CA bundle, secret keys."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from foundation.layered_config import ConfigError
from foundation.logs import get_logger
from offloader.http_server import tls_context
from offloader.reload import Loaded
from offloader.settings import Reading, Settings, TlsSettings, read_settings, reread_settings
from offloader.store.key_place import KeyPlace
from offloader.store.secret_key import Cipher

NO_CHANGE: Final = Loaded((), lambda: None)

log = get_logger()


class ConfigurationPart:
    """The file; the environment overrides it as ever."""

    name = "configuration"
    eager = False

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str],
        reading: Reading,
        *,
        live: frozenset[str],
        apply: Callable[[Settings], None],
    ) -> None:
        """`reading`: with which the process started. `live`: names of settings that `apply` takes over."""
        self._path = path
        self._environ = environ
        self._reading = reading
        self._live = live
        self._apply = apply

    @property
    def settings(self) -> Settings:
        """What is in force."""
        return self._reading.settings

    def files(self) -> Sequence[Path]:
        """See `Part`."""
        return (self._path,)

    def load(self) -> Loaded:
        """See `Part`. Settings that count at the next start only are named in the log."""
        present = self._reading
        found = read_settings(self._path, self._environ)
        if found.problems:
            raise ConfigError(str(found.problems[0]))
        if present.file_found and not found.file_found:
            raise ConfigError(f"{self._path}: no such file any more")
        before, now = present.config.values, found.config.values
        changed = sorted(name for name in now if now[name] != before[name])
        if waiting := [name for name in changed if name not in self._live]:
            log.warning("config.needs_restart", settings=waiting)
        taken = tuple(name for name in changed if name in self._live)
        if not taken:
            return NO_CHANGE
        merged = reread_settings(present, found, taken, path=self._path, environ=self._environ)
        if merged.problems:
            raise ConfigError(str(merged.problems[0]))
        for warning in merged.settings.warnings:
            if warning not in present.settings.warnings:
                log.warning("config.warning", text=warning)

        def commit() -> None:
            try:
                self._apply(merged.settings)
            except Exception:
                # Whoever has taken it over already goes back; whoever fails at that is told of once.
                with contextlib.suppress(Exception):
                    self._apply(present.settings)
                raise
            self._reading = merged

        return Loaded(taken, commit)


class CertificatePart:
    """Certificate and key of a server: for connections from then on."""

    name = "certificate"
    eager = False

    def __init__(
        self,
        tls: TlsSettings,
        use: Callable[[ssl.SSLContext], None],
        *,
        setting: str,
    ) -> None:
        """`tls`: enabled. `use`: gives the server what replaces its own. `setting`: its name, for errors."""
        self._tls = tls
        self._use = use
        self._setting = setting
        self._digest = _digest(self.files())

    def files(self) -> Sequence[Path]:
        """See `Part`."""
        return Path(self._tls.cert_file), Path(self._tls.cert_key)

    def load(self) -> Loaded:
        """See `Part`."""
        context = tls_context(self._tls, self._setting)
        digest = _digest(self.files())
        if digest == self._digest:
            return NO_CHANGE

        def commit() -> None:
            self._use(context)
            self._digest = digest

        return Loaded((self._setting,), commit)


class CaBundlePart:
    """`jobs.ca_cert_file`: for jobs that are started from then on."""

    name = "ca_bundle"
    eager = True

    def __init__(self, path: Callable[[], Path | None], use: Callable[[bytes], None]) -> None:
        """`path`: in force. `use`: is given the content."""
        self._path = path
        self._use = use
        self._content: bytes | None = None

    def files(self) -> Sequence[Path]:
        """See `Part`."""
        path = self._path()
        return (path,) if path is not None else ()

    def load(self) -> Loaded:
        """See `Part`."""
        path = self._path()
        if path is None:
            return NO_CHANGE
        try:
            content = path.read_bytes()
            pem = content.decode(
                "ascii", "ignore"
            )  # names beside certificates may be in any letters
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ConfigError(f"jobs.ca_cert_file: {path} cannot be used: {reason}") from error
        if content == self._content:
            return NO_CHANGE

        def commit() -> None:
            self._use(content)
            self._content = content

        return Loaded(("jobs.ca_cert_file",), commit)


class SecretKeyPart:
    """The key file; keys of the environment are those of the start."""

    name = "secret_keys"
    eager = False

    def __init__(self, place: KeyPlace, cipher: Cipher) -> None:
        self._place = place
        self._cipher = cipher

    def files(self) -> Sequence[Path]:
        """See `Part`."""
        return () if self._place.in_environment else (self._place.file,)

    def load(self) -> Loaded:
        """See `Part`."""
        if self._place.in_environment:
            return NO_CHANGE
        fresh = self._place.cipher()
        if [key.id for key in fresh.keys] == [key.id for key in self._cipher.keys]:
            return NO_CHANGE
        return Loaded(("secret keys",), lambda: self._cipher.become(fresh))


def _digest(files: Sequence[Path]) -> str:
    """Of their content."""
    digest = hashlib.sha256()
    for path in files:
        try:
            content = path.read_bytes()
        except OSError:
            content = b""
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()
