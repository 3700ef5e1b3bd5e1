"""Scripts from the command line, and the lock."""

from __future__ import annotations

import pytest

from testbed.rtcd_double.lock import OwnerlessLock
from testbed.rtcd_double.script import Script, ScriptError, read_script


def test_settings_take_the_kind_of_their_default() -> None:
    script = read_script(
        ["lost_offers=1,3", "answer_timeout_s=2.5", "video_copies=1", "map_after_offer=true"]
    )
    assert script == Script(
        lost_offers=frozenset({1, 3}), answer_timeout_s=2.5, video_copies=1, map_after_offer=True
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("nonsense=1", "'nonsense' is not one of"),
        ("map_after_offer=yes", "map_after_offer=yes: should be true or false"),
        ("lost_offers=a", "lost_offers=a: should be whole numbers with commas"),
        ("answer_timeout_s=soon", "answer_timeout_s=soon: should be a number"),
        ("offers_av1_first=maybe", "offers_av1_first=maybe: should be random, yes or no"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named(setting: str, message: str) -> None:
    with pytest.raises(ScriptError, match=message):
        read_script([setting])


@pytest.mark.looptime
async def test_the_lock_waits_for_its_time_and_no_longer(looptime: object) -> None:
    lock = OwnerlessLock()
    assert lock.try_lock()
    assert not lock.try_lock()
    assert not await lock.lock(timeout_s=5)
    assert looptime == 5


@pytest.mark.looptime
async def test_any_unlock_frees_the_lock() -> None:
    lock = OwnerlessLock()
    assert await lock.lock(timeout_s=5)
    assert lock.by_server
    assert lock.unlock()
    assert lock.try_lock()
    assert lock.unlock()
    assert not lock.unlock()
