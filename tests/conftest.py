"""What all tests share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def no_stray_event_loop() -> Iterator[None]:
    """Own the main thread's default loop: pytest-asyncio would make one and leave it unclosed, which
    fails whatever test happens to run when it is collected."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()
