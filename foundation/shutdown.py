"""Signals: the first asks to finish politely, the second to hurry."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager


class Shutdown:
    """What the process's signals ask for. Made by `shutdown_on_signals`."""

    def __init__(self) -> None:
        self.requested = asyncio.Event()
        """Set by the first SIGTERM or SIGINT, or by `request`: finish politely."""
        self.hurry = asyncio.Event()
        """Set by the second one: save what is there and go."""

    def request(self) -> None:
        """One more wish to end; safe to call from the loop's signal handler."""
        if self.requested.is_set():
            self.hurry.set()
        self.requested.set()


@contextmanager
def shutdown_on_signals() -> Iterator[Shutdown]:
    """Route SIGTERM and SIGINT of this process to a `Shutdown` while the block runs.

    Must be entered in the main thread with a running loop.
    """
    loop = asyncio.get_running_loop()
    shutdown = Shutdown()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, shutdown.request)
    try:
        yield shutdown
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
