"""Failures of a backend are counted by operation, and told before there is one."""

from __future__ import annotations

import pytest

from offloader.backends.base import Backend
from offloader.backends.counted import CountedBackend
from offloader.backends.stub import StubBackend
from offloader.errors import BackendError


def test_every_operation_is_told_from_the_start() -> None:
    operations = {name for name in vars(Backend) if not name.startswith("_")} - {"aclose"}
    assert CountedBackend(StubBackend()).failures == dict.fromkeys(operations, 0)


async def test_a_failure_counts_and_is_raised_all_the_same() -> None:
    stub = StubBackend()
    counted = CountedBackend(stub)
    stub.unusable = "no engine"
    with pytest.raises(BackendError, match="no engine"):
        await counted.check_usable()
    assert {name: count for name, count in counted.failures.items() if count} == {"check_usable": 1}
