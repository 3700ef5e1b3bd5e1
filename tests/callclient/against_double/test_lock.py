"""The original's lock has no owner: a client must ask, wait, and never free what is not its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from callclient.errors import MediaFailed


async def test_a_publication_waits_while_the_server_holds_the_lock(lobby: Any, tools: Any) -> None:
    double = await lobby.double(answers_arrive_after_s=0.15)
    alice = await lobby.enter(double, "alice")
    double.puppet("bob").voice().send(tools.silence)
    await tools.until(lambda: alice.book.offers)
    await alice.publish("audio", "stream")
    assert alice.book.lock_replies[0] is False
    assert alice.book.lock_replies[-1] is True
    assert alice.book.ignored_offers == 0


async def test_a_listener_never_unlocks(lobby: Any, tools: Any) -> None:
    double = await lobby.double()
    listener = await lobby.enter(double)
    for name in ("alice", "bob"):
        double.puppet(name).voice().send(tools.silence)
    await tools.until(lambda: len(listener.book.announced) == 2)
    assert listener.book.lock_replies == []
    assert listener.book.foreign_unlocks == 0


async def test_publications_of_one_client_take_turns_and_unlock_what_they_locked(
    lobby: Any, tools: Any
) -> None:
    double = await lobby.double()
    alice = await lobby.enter(double, "alice")
    await asyncio.gather(*(alice.publish("audio", f"stream{n}") for n in range(3)))
    assert alice.book.lock_replies.count(True) == 3
    assert alice.book.foreign_unlocks == 0
    assert alice.book.ignored_offers == 0


async def test_a_lock_that_is_granted_too_late_is_given_back(
    lobby: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server could not announce anything to us otherwise."""
    monkeypatch.setattr("callclient.lock.LOCK_TIMEOUT_S", 0.05)
    double = await lobby.double(lock_replies_after_s=0.15, lock_timeout_s=1.0)
    alice = await lobby.enter(double, "alice")
    with pytest.raises(MediaFailed, match="no signaling lock"):
        await alice.publish("audio", "stream")
    assert alice.book.lock_replies == [True]
    double.puppet("bob").voice().send(tools.silence)
    await tools.until(lambda: alice.tracks)
    assert alice.book.foreign_unlocks == 0
