"""The event loop of those targets that need one: the same for all inputs, so that leftovers show."""

from __future__ import annotations

import asyncio
import atexit

LOOP = asyncio.new_event_loop()
atexit.register(LOOP.close)
