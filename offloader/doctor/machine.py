"""What steps ask this host: users, mounts, commands of the system. Blocks, and never for long."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_COMMAND_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of /proc/mounts."""

    device: str
    place: str
    kind: str
    """Such as ext4, tmpfs, nfs4."""
    read_only: bool

    @property
    def forgets(self) -> bool:
        """What is written there is gone with the next start."""
        return self.kind in ("tmpfs", "ramfs")

    @property
    def remote(self) -> bool:
        """Another host's disk: locks and fsync mean less there."""
        return self.kind in ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph")


def mount_of(path: Path, *, root: Path = Path("/")) -> Mount | None:
    """Where `path`, or what it will be made in, lies; None: that cannot be told."""
    try:
        text = (root / "proc/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    place = os.path.realpath(path)
    best: Mount | None = None
    for line in text.splitlines():
        fields = line.split()
        if len(fields) < 4:
            continue
        where = fields[1].replace("\\040", " ")
        inside = where == "/" or place == where or place.startswith(where + "/")
        if inside and (best is None or len(where) >= len(best.place)):
            best = Mount(fields[0], where, fields[2], "ro" in fields[3].split(","))
    return best


def existing(path: Path) -> Path:
    """`path`, or the nearest directory above it that is there."""
    # Unlike Path.exists, this one tolerates directories that nobody may look into.
    return next((place for place in (path, *path.parents) if os.path.exists(place)), Path("/"))


def user_name() -> str:
    """Who runs this; a number, where that has no name."""
    return _name(os.geteuid())


def owner_of(path: Path) -> str:
    """Whose file it is. Raises OSError."""
    return _name(path.stat().st_uid)


def of_another_user(path: Path) -> bool:
    """Neither ours nor root's, but perhaps the service's: this user cannot judge it. Raises OSError."""
    return os.geteuid() != 0 and path.stat().st_uid not in (0, os.geteuid())


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def output_of(command: Sequence[str]) -> str | None:
    """What a command of the system prints; None: it is not there, fails or hangs."""
    found = shutil.which(command[0])
    if found is None:
        return None
    try:
        done = subprocess.run(
            [found, *command[1:]],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_COMMAND_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def size(size_bytes: float) -> str:
    """`17 B`, `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} GiB"
