"""Candidates that name a host instead of an address: resolved off the loop, a few of them (RFC 8839 section
5.1). Names of mDNS are left out: the address behind them shows itself by its checks."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable

_MAX_NAMES = 8
_MAX_ADDRESSES = 4
_TIMEOUT_S = 5.0
_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")


class HostNames:
    """Takes candidate lines, gives lines with addresses."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._lookups: dict[str, asyncio.Task[None]] = {}
        self.ignored = 0
        """Candidates left out: mDNS, unreadable names, more than 8 different lines, no address."""

    def take(self, line: str) -> bool:
        """Is this a candidate with a name? Then its addresses come by callback, or never."""
        words = line.split()
        if len(words) < 8 or _is_address(words[4]):
            return False
        name = words[4].lower().rstrip(".")
        if line in self._lookups:
            return True
        if name.endswith(".local") or not _NAME.fullmatch(name) or len(self._lookups) >= _MAX_NAMES:
            self.ignored += 1
            return True
        self._lookups[line] = asyncio.create_task(self._look_up(words, name), name="host-name")
        return True

    def close(self) -> None:
        """Idempotent."""
        for task in self._lookups.values():
            task.cancel()

    async def _look_up(self, words: list[str], name: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                found = await loop.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
        except OSError:  # TimeoutError is one
            self.ignored += 1
            return
        addresses = dict.fromkeys(str(entry[4][0]) for entry in found)
        for address in list(addresses)[:_MAX_ADDRESSES]:
            self._on_line(" ".join([*words[:4], address, *words[5:]]))


def _is_address(text: str) -> bool:
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        socket.inet_pton(family, text)
    except OSError:
        return False
    return True
