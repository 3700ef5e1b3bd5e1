"""What a support bundle tells of this host: versions, the configuration in force, the service's own log."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sqlite3
import ssl
import struct
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from offloader.setting_keys import KEYS
from offloader.settings import Reading, default_state_dir
from offloader.support_bundle_redaction import passwords_in, secret_values
from offloader.version import BUILD_DATE, BUILD_HASH, BUILD_VERSION

LOG_TAIL_BYTES: Final = 512 * 1024
_JOURNAL_LINES: Final = "3000"
_UNIT: Final = "calls-offloader.service"
_COMMAND_S: Final = 10.0
_MOST_ENVIRON_BYTES: Final = 1 << 20


def versions() -> dict[str, Any]:
    """Ours, the interpreter's, every package's, the system's."""
    packages = {
        str(found.metadata["Name"]): found.version
        for found in metadata.distributions()
        if found.metadata["Name"]
    }
    return {
        "offloader": {"version": BUILD_VERSION, "date": BUILD_DATE, "hash": BUILD_HASH},
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "sqlite": sqlite3.sqlite_version,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "distribution": _distribution(),
        "cpus": os.cpu_count(),
        "memory_kib": _memory_kib(),
        "engine": _engine(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def configuration(path: Path, reading: Reading) -> dict[str, Any]:
    """The values in force, where each comes from, and what is wrong with them. Secret ones are masked by who
    writes the bundle, and already here by their keys."""
    return {
        "file": str(path),
        "file_found": reading.file_found,
        "unknown_keys": list(reading.unknown),
        "problems": [{"place": p.place, "key": p.key, "wanted": p.text} for p in reading.problems],
        "values": {
            name: {
                "value": "***" if KEYS[name].secret and value else _plain(value),
                "source": reading.sources[name],
            }
            for name, value in reading.values.items()
        },
    }


def known_secrets(reading: Reading, environ: Mapping[str, str], process: int | None) -> set[str]:
    """Every value that this host keeps secret, as far as it may be read from here. Blocks.

    `process`: the service's, whose environment may hold more than ours.
    """
    found = secret_values(environ) | secret_values(_environ_of(process))
    for name, value in reading.values.items():
        if KEYS[name].secret and isinstance(value, str):
            found.add(value)
        for text in value if isinstance(value, list | tuple) else (value,):
            if isinstance(text, str) and "://" in text:
                found |= passwords_in(text)
    for place in _key_files(reading):
        try:
            found.add(place.read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError):
            continue  # not ours to read, so nothing of it is in what we read
    return found


def process_behind(path: Path | None) -> int | None:
    """The service's process, by its local socket; None when nobody listens there. Blocks."""
    if path is None:
        return None
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(2)
            probe.connect(str(path))
            credentials = probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    except OSError:
        return None
    pid: int = struct.unpack("3i", credentials)[0]
    return pid or None


def service_log(reading: Reading, process: int | None) -> tuple[str, str]:
    """The newest part of the service's log, and where it is from. Blocks.

    Raises:
        OSError: there is none that could be read; the text says where it was looked for.
    """
    logger = reading.settings.logger
    tried = []
    if logger.enable_file:
        for place in _log_places(Path(logger.file_location), process):
            try:
                return _tail(place), str(place)
            except OSError as error:
                tried.append(f"{place}: {error.strerror}")
    try:
        return _journal(), f"journal of {_UNIT}"
    except OSError as error:
        tried.append(str(error))
    raise OSError("; ".join(tried))


def _log_places(location: Path, process: int | None) -> list[Path]:
    """A path without a root is below the service's directory, which is not ours."""
    if location.is_absolute():
        return [location]
    places = [location.absolute()]
    if process is not None:
        try:
            places.insert(0, Path(os.readlink(f"/proc/{process}/cwd")) / location)
        except OSError:
            return places  # only root and the service's user may know
    return places


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - LOG_TAIL_BYTES, 0))
        text = file.read(LOG_TAIL_BYTES).decode(errors="replace")
    return text if size <= LOG_TAIL_BYTES else text.partition("\n")[2]


def _journal() -> str:
    command = [
        "journalctl",
        "--no-pager",
        "--quiet",
        "-n",
        _JOURNAL_LINES,
        "-o",
        "cat",
        "-u",
        _UNIT,
    ]
    text = _output(command)
    if not text.strip():
        raise OSError(f"the journal has nothing of {_UNIT}")
    # Half a line may hold half a secret, which nobody would know again.
    return text if len(text) <= LOG_TAIL_BYTES else text[-LOG_TAIL_BYTES:].partition("\n")[2]


def _output(command: list[str]) -> str:
    """Raises OSError."""
    if shutil.which(command[0]) is None:
        raise OSError(f"there is no {command[0]}")
    try:
        done = subprocess.run(command, capture_output=True, timeout=_COMMAND_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{command[0]} does not answer") from error
    return done.stdout.decode(errors="replace")


def _engine() -> str:
    """Of the container engine, as its own client tells; empty where there is none."""
    try:
        return _output(["docker", "version", "--format", "{{.Server.Version}}"]).strip()
    except OSError:
        return ""


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return ""


def _memory_kib() -> int:
    try:
        first = Path("/proc/meminfo").read_text(encoding="ascii").split("\n", 1)[0]
        return int(first.split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _environ_of(process: int | None) -> dict[str, str]:
    if process is None:
        return {}
    try:
        with Path(f"/proc/{process}/environ").open("rb") as file:
            parts = file.read(_MOST_ENVIRON_BYTES).decode(errors="replace").split("\0")
    except OSError:
        return {}
    return {name: value for name, _, value in (part.partition("=") for part in parts)}


def _key_files(reading: Reading) -> list[Path]:
    """Beside the SQLite file, or in the state directory (offloader.store)."""
    source = str(reading.values["store.data_source"])
    beside = default_state_dir(os.environ)
    if "://" not in source:
        beside = Path(source) if os.path.isdir(source) else Path(source).parent
    try:
        return sorted(beside.glob("*.key"))
    except OSError:
        return []  # not for us to look into


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value
