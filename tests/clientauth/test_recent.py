"""What a flood tries is remembered for a second, and little of it."""

from __future__ import annotations

import tracemalloc

from clientauth.recent import RecentClients
from clientauth.store import MemoryClientStore
from foundation.clock import ManualClock


async def test_names_that_somebody_tries_are_not_kept_however_long_they_are() -> None:
    recent = RecentClients(store=MemoryClientStore(), clock=ManualClock())
    tracemalloc.start()
    try:
        for number in range(300):
            assert await recent.find(f"{number}".ljust(65_536, "n")) is None
        kept_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept_bytes < 300 * 1024
