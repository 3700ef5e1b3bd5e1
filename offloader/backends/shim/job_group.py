"""One job's control group: enter, kill, why it was killed, remove (Linux's admin-guide/cgroup-v2.rst).

Functions on the group's directory, for the shim as for the service; who makes groups and what they limit is
`offloader.backends.cgroup`'s.
"""

from __future__ import annotations

import os
import time

_REMOVE_S = 0.5
"""The kernel may need a moment until all that was killed in a group is gone."""


def enter(group: str) -> None:
    """Move this process into `group`. Raises OSError."""
    _write(f"{group}/cgroup.procs", "0")


def kill(group: str) -> bool:
    """Kill all there is in `group`, also what is being started; False where the kernel has no such thing
    (before 5.14), or the group is gone."""
    try:
        _write(f"{group}/cgroup.kill", "1")
    except OSError:
        return False
    return True


def populated(group: str) -> bool:
    """Whether anything runs in `group` or below; zombies do not."""
    return _counters(f"{group}/cgroup.events").get("populated", 0) > 0


def killed_for_memory(group: str) -> str | None:
    """Whose limit made the kernel kill what ran in `group`: its own (`limit`), or the host's or the service's
    (`host`). None: the kernel has killed nothing."""
    events = _counters(f"{group}/memory.events")
    if not events.get("oom_kill"):
        return None
    return "limit" if events.get("oom") else "host"


def remove(group: str) -> bool:
    """Remove an empty group; False: it does not become empty. One that is gone is removed."""
    give_up_s = time.monotonic() + _REMOVE_S
    while True:
        try:
            os.rmdir(group)
        except FileNotFoundError:
            return True
        except OSError:
            if time.monotonic() > give_up_s:
                return False
            time.sleep(0.01)
        else:
            return True


def _counters(path: str) -> dict[str, int]:
    """A file of lines with a name and a number each; empty when it cannot be read."""
    try:
        with open(path, encoding="ascii") as file:
            pairs = [line.split() for line in file]
    except OSError:
        return {}
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2}


def _write(path: str, text: str) -> None:
    # Without O_CREAT and O_TRUNC: whatever is no control group is left as it is.
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
