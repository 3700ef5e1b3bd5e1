"""What a process that holds tokens leaves of itself: files for its user alone, and no core dumps."""

from __future__ import annotations

import os
import resource


def keep_to_itself() -> None:
    """First of all in a process; what it starts inherits both. Directories are 0700 then, files 0600."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
