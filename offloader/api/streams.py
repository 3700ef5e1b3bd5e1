"""Answers without an end of their own: they end when the service does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

T = TypeVar("T")


async def until(closing: asyncio.Event, items: AsyncIterator[T]) -> AsyncIterator[T]:
    """`items` until there are no more or `closing` is set; what is being waited for is then given up."""
    ending = asyncio.ensure_future(closing.wait())
    try:
        while True:
            item = asyncio.ensure_future(anext(items))
            try:
                await asyncio.wait((item, ending), return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not item.done():
                    item.cancel()
                    await asyncio.wait((item,))
            if item.cancelled():
                return
            try:
                yield item.result()
            except StopAsyncIteration:
                return
    finally:
        ending.cancel()
