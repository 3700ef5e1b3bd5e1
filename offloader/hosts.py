"""Which host this is: where plain processes and their files can be reached again."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

from offloader.backends.base import Backend
from offloader.store.base import Lease


async def lease_of_this_process(backend: Backend) -> Lease:
    """Who this process is to other replicas, and which of their jobs it can reach.

    Raises:
        BackendError: the backend cannot be asked where its workloads live.
    """
    here = host_id()
    owner = f"{here}/{secrets.token_hex(6)}"
    return Lease(owner=owner, host=await backend.place(), directories=here)


def host_id() -> str:
    """The same after a restart of the host; of containers, the container."""
    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()[:8]
    except (OSError, ValueError):
        machine = ""
    return f"{socket.gethostname()}/{machine}"
