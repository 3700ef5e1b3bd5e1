"""Under which addresses the SFUs' one DNS name is known now (rtcd.md 4.2)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

_TIMEOUT_S: Final = 2.0

Resolve = Callable[[str], Awaitable[list[str]]]
"""The IPv4 addresses of a host name, sorted. Raises OSError when there is none."""


async def resolve_ipv4(host: str) -> list[str]:
    """Ask the system."""
    loop = asyncio.get_running_loop()
    asking = loop.getaddrinfo(host, None, family=socket.AF_INET, type=socket.SOCK_STREAM)
    found = await asyncio.wait_for(asking, _TIMEOUT_S)
    return sorted({str(address[0]) for *_, address in found})


class HostsFile:
    """A file of lines `address name`, as hosts(5), read at every question: DNS that a test can change."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def __call__(self, host: str) -> list[str]:
        text = await asyncio.to_thread(self._path.read_text, encoding="utf-8")
        lines = (line.partition("#")[0].split() for line in text.splitlines())
        found = sorted({parts[0] for parts in lines if host in parts[1:]})
        if not found:
            raise OSError(f"{self._path} has no address of {host}")
        return found
