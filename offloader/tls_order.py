"""In which order handshakes begin when more clients come than can be computed: addresses in rotation, of one
address the newest first.

A client gives up after a second (calls-plugin.md 6.2), so under a flood a fair queue would serve only those
that have gone. Whoever has just come can still be served.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Generic, TypeVar

MOST_WAITING: Final = 2048

T = TypeVar("T")


class NewestFirst(Generic[T]):
    """Who waits, by address. `most`: of all; beyond it the address with the most loses its oldest."""

    def __init__(self, *, most: int = MOST_WAITING) -> None:
        self._most = most
        self._count = 0
        self._stacks: dict[str, deque[T]] = {}
        """Addresses in the order of their turns; never an empty stack."""

    def __len__(self) -> int:
        return self._count

    def add(self, address: str, item: T) -> T | None:
        """`item` came; whoever has to go for it, or None."""
        self._stacks.setdefault(address, deque()).append(item)
        self._count += 1
        if self._count <= self._most:
            return None
        largest = max(self._stacks, key=lambda name: len(self._stacks[name]))
        self._count -= 1
        dropped = self._stacks[largest].popleft()
        if not self._stacks[largest]:
            del self._stacks[largest]
        return dropped

    def take(self) -> T:
        """Whose turn it is. Raises LookupError: nobody waits."""
        try:
            address = next(iter(self._stacks))
        except StopIteration:
            raise LookupError from None
        stack = self._stacks.pop(address)
        item = stack.pop()
        self._count -= 1
        if stack:
            self._stacks[address] = stack  # behind all others
        return item
