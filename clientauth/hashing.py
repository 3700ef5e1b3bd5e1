"""Hashes of client keys: argon2id for new ones; bcrypt ones of the reference are accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import argon2
import bcrypt

_HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
"""OWASP's minimum for argon2id. Keys are 32 random characters or more, so more would only cost."""
AT_ONCE: Final = 2
"""Each hash takes 19 MB and tens of milliseconds of one core; a flood of logins must not take them all."""
_POOL: Final = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="hashing")
"""Of this process: whoever gives up waiting leaves a hash under way, which goes on counting."""

T = TypeVar("T")


async def in_pool(hashing: Callable[[], T]) -> T:
    """`hashing()` in one of this process's few threads for it."""
    return await asyncio.get_running_loop().run_in_executor(_POOL, hashing)


def hash_key(key: str) -> str:
    """The hash to store. Slow on purpose: call it off the event loop."""
    return _HASHER.hash(key)


def verify_key(key_hash: str, key: str) -> bool:
    """Does the key belong to the hash? False for a hash of an unknown form. Slow: off the event loop."""
    if key_hash.startswith("$2"):
        try:
            return bcrypt.checkpw(key.encode()[:72], key_hash.encode())
        except ValueError:
            return False
    try:
        return _HASHER.verify(key_hash, key)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False
