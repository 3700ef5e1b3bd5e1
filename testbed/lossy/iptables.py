"""Loss by the kernel instead of the proxy: iptables' statistic match, where root and NET_ADMIN allow it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


async def _iptables(*arguments: str) -> bool:
    process = await asyncio.create_subprocess_exec(
        "iptables", "-w", *arguments, stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait() == 0


def _rule(source: int, destination: int, loss: float) -> list[str]:
    return [
        "INPUT", "-i", "lo", "-p", "udp", "--sport", str(source), "--dport", str(destination),
        "-m", "statistic", "--mode", "random", "--probability", f"{loss:.6f}", "-j", "DROP",
    ]  # fmt: skip


async def usable() -> bool:
    """Is it there, and may we?"""
    if shutil.which("iptables") is None:
        return False
    probe = _rule(1, 1, 0.5)
    return await _iptables("-I", *probe) and await _iptables("-D", *probe)


@asynccontextmanager
async def losing(one: int, other: int, loss: float) -> AsyncIterator[None]:
    """Between two UDP ports of this host a share of the datagrams vanishes, both ways.

    Raises:
        RuntimeError: iptables refused.
    """
    rules = [_rule(one, other, loss), _rule(other, one, loss)] if loss else []
    made = []
    try:
        for rule in rules:
            if not await _iptables("-I", *rule):
                raise RuntimeError("iptables refused a rule of the statistic match")
            made.append(rule)
        yield
    finally:
        for rule in made:
            await _iptables("-D", *rule)
