"""The user whom process jobs run as, where that is not the service's own (`jobs.process.user`).

What the service keeps of a job stays the service's: its log, and the files that name processes and control
groups. The job gets a directory for its files and one for its input, both 0700 and its own; on the way there
directories are 0711, which lets pass and shows nothing. Everything here blocks.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from offloader.errors import BackendError

PASSAGE: Final = 0o711
_KEY: Final = "jobs.process.user"
_NEEDED: Final = {
    "CAP_CHOWN": 0,  # give it its directories
    "CAP_DAC_OVERRIDE": 1,  # read and remove its files
    "CAP_FOWNER": 3,
    "CAP_KILL": 5,  # stop it
    "CAP_SETGID": 6,
    "CAP_SETUID": 7,
}
"""By their bits (linux/capability.h); root has all of them, unless somebody took them away."""


@dataclass(frozen=True, slots=True)
class JobUser:
    """A user of this host, with the user's first group; others are dropped."""

    uid: int
    gid: int
    home: str

    @classmethod
    def named(cls, name: str) -> JobUser:
        """The user of this name, if this process may become that one.

        Raises:
            BackendError: there is none, it would be no other one, or it may not.
        """
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            raise BackendError(f"{_KEY}: {name!r}: no such user on this host") from None
        if entry.pw_uid in (0, os.geteuid()):
            raise BackendError(
                f"{_KEY}: {name!r}: should be a user without rights, and another one than the service's"
            )
        if missing := _missing_capabilities():
            raise BackendError(
                f"{_KEY}: this service may not run jobs as {name!r}: it is not root and lacks "
                f"{' '.join(missing)}"
            )
        return cls(entry.pw_uid, entry.pw_gid, entry.pw_dir)

    @classmethod
    def owner_of(cls, directory: Path) -> JobUser | None:
        """Whose files these are, which later runs on them need to be able to read; None: the service's own,
        or it may become nobody else: network file systems call owners as they like.

        Raises:
            OSError: it is not to be had.
        """
        status = directory.lstat()
        if status.st_uid == os.geteuid() or _missing_capabilities():
            return None
        try:
            home = pwd.getpwuid(status.st_uid).pw_dir
        except KeyError:
            home = "/"
        return cls(status.st_uid, status.st_gid, home)

    def make_directory(self, directory: Path) -> Path:
        """A new one that is this user's alone, below one of the service's own. Raises OSError."""
        directory.mkdir(mode=0o700)
        os.chown(directory, self.uid, self.gid, follow_symlinks=False)
        return directory

    def check_way(self, jobs_dir: Path) -> None:
        """Whether this user gets to it; it is opened for passage itself.

        Raises:
            BackendError: a directory above is closed.
        """
        for above in reversed(jobs_dir.resolve().parents):
            status = above.stat()
            if status.st_uid == self.uid:
                passes = status.st_mode & 0o100
            elif status.st_gid == self.gid:
                passes = status.st_mode & 0o010
            else:
                passes = status.st_mode & 0o001
            if not passes:
                raise BackendError(
                    f"{_KEY}: jobs do not get to jobs.process.jobs_dir ({jobs_dir}): {above} should have "
                    "mode 0711, or jobs.process.jobs_dir be elsewhere"
                )
        jobs_dir.chmod(PASSAGE)


def _missing_capabilities() -> list[str]:
    effective = _effective_capabilities()
    return [name for name, bit in _NEEDED.items() if not effective >> bit & 1]


def _effective_capabilities() -> int:
    """A bit for each (proc_pid_status(5))."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))
