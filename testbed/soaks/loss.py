"""Loses a share of what one UDP port sends, by iptables: as a network does, unseen by both ends."""

from __future__ import annotations

import asyncio
from typing import Final

_COMMAND_LIMIT_S: Final = 10.0


class LossUnavailable(Exception):
    """No iptables with its `statistic` match, or not the right to use it."""


class LossyPort:
    """`async with`; afterwards nothing is left in the tables.

    What is sent to the port arrives: a bot repeats nothing, so that its loss would be a fault of the source.
    """

    def __init__(self, port: int, *, loss: float) -> None:
        """`loss`: a share, 0–1; 0 touches nothing."""
        self._loss = loss
        # In INPUT, because a packet dropped in OUTPUT is an error for its sender.
        self._rule = ["INPUT", "-i", "lo", "-p", "udp", "--sport", str(port)]
        self._drop = ["-m", "statistic", "--mode", "random", "--probability", f"{loss:.4f}"]
        self._added: list[list[str]] = []
        self.passed = 0
        """Known when the block has ended."""
        self.lost = 0

    async def __aenter__(self) -> LossyPort:
        """Raises LossUnavailable."""
        if self._loss:
            try:
                await self._add([*self._rule, *self._drop, "-j", "DROP"])
                await self._add([*self._rule, "-j", "ACCEPT"])
            except LossUnavailable:
                await self._remove()
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._loss:
            self.lost, self.passed = await self._count()
        await self._remove()

    async def _add(self, rule: list[str]) -> None:
        chain, *rest = rule
        await _iptables("-I", chain, str(len(self._added) + 1), *rest)
        self._added.append(rule)

    async def _remove(self) -> None:
        while self._added:
            await _iptables("-D", *self._added.pop())

    async def _count(self) -> tuple[int, int]:
        """Packets of both rules, which are the table's first that name the port."""
        port = f"spt:{self._rule[-1]}"
        lines = (await _iptables("-L", "INPUT", "-v", "-x", "-n")).splitlines()
        counts = [int(line.split()[0]) for line in lines if port in line]
        return (counts[0], counts[1]) if len(counts) > 1 else (0, 0)


async def _iptables(*arguments: str) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            "iptables",
            "-w",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise LossUnavailable(f"iptables: {error.strerror}") from error
    async with asyncio.timeout(_COMMAND_LIMIT_S):
        out, complaint = await process.communicate()
    if process.returncode:
        raise LossUnavailable(f"iptables: {complaint.decode(errors='replace').strip()}")
    return out.decode(errors="replace")
