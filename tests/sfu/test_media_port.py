"""What the control plane may rely on, held against the real media plane (rtcd.md 2.3, 3.1)."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
from typing import Any

import pytest

from sfu.media_port import JoinError, MediaServer, SessionConfig
from sfu.messages import Close, Rtc, RtcMessage, RtcType, Vad
from sfu.server import SfuServer

Sent = Rtc | Vad | Close
ALICE = SessionConfig("group", "call", "user", "alice")
MUTE = RtcMessage(RtcType.MUTE, "nobody")


def test_the_real_media_plane_offers_what_the_port_asks_for() -> None:
    port = {
        name: method
        for name, method in inspect.getmembers(MediaServer, inspect.isfunction)
        if not name.startswith("_")
    }
    assert set(port) == {
        *("join", "handle", "rebind", "session", "sessions", "leave"),
        *("has_group", "session_count", "missing_processes", "snapshots"),
    }
    for name, method in port.items():
        real: Any = getattr(SfuServer, name)
        assert list(inspect.signature(real).parameters) == list(
            inspect.signature(method).parameters
        )
        assert inspect.iscoroutinefunction(real) == inspect.iscoroutinefunction(method)


def test_a_session_without_options_has_no_av1_and_signals_over_the_websocket() -> None:
    assert (ALICE.channel_id, ALICE.av1_support, ALICE.dc_signaling) == ("", False, False)


def test_a_session_config_cannot_be_changed_after_the_join() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ALICE.group_id = "another"


async def test_a_session_is_there_from_its_join_to_its_leave(sfu) -> None:
    sent: list[Sent] = []
    assert sfu.session("alice") is None
    await sfu.join(ALICE, sent.append)
    assert sfu.session("alice") == ALICE
    assert sfu.sessions("group", "call") == [ALICE]
    assert sent == []
    await sfu.leave("alice")
    assert sfu.session("alice") is None
    assert sfu.sessions("group", "call") is None
    assert sent == [Close("alice")]


async def test_calls_of_the_same_name_of_two_groups_are_two_calls(sfu) -> None:
    bob = SessionConfig("another", "call", "user", "bob")
    for config in (ALICE, bob):
        await sfu.join(config, lambda _: None)
    assert sfu.sessions("group", "call") == [ALICE]
    assert sfu.sessions("another", "call") == [bob]
    assert sfu.sessions("group", "another") is None


async def test_groups_and_sessions_are_known_as_long_as_there_are_any(sfu) -> None:
    assert (sfu.session_count(), sfu.has_group("group")) == (0, False)
    await sfu.join(ALICE, lambda _: None)
    assert (sfu.session_count(), sfu.has_group("group"), sfu.has_group("other")) == (1, True, False)
    await sfu.leave("alice")
    assert (sfu.session_count(), sfu.has_group("group")) == (0, False)


async def test_an_unknown_session_is_nobodys_fault(sfu) -> None:
    await sfu.handle("nobody", MUTE)
    await sfu.leave("nobody")
    assert sfu.rebind("nobody", lambda _: None) is False
    assert sfu.session("nobody") is None


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"group_id": ""}, "invalid GroupID value: should not be empty"),
        ({"group_id": "", "call_id": ""}, "invalid GroupID value: should not be empty"),
        ({"call_id": "", "user_id": ""}, "invalid CallID value: should not be empty"),
        ({"user_id": "", "session_id": ""}, "invalid UserID value: should not be empty"),
        ({"session_id": ""}, "invalid SessionID value: should not be empty"),
    ],
)
@pytest.mark.documents("a-join-that-cannot-be/2")
async def test_a_join_that_fails_leaves_nothing_behind(
    sfu, changes: dict[str, str], text: str, documented
) -> None:
    sent: list[Sent] = []
    config = dataclasses.replace(ALICE, **changes)
    with pytest.raises(JoinError) as caught:
        await sfu.join(config, sent.append)
    assert str(caught.value) == text
    documented("a-join-that-cannot-be/2", str(caught.value))
    assert sfu.sessions(config.group_id, config.call_id) is None
    assert sfu.session(config.session_id) is None
    assert sent == []


@pytest.mark.documents("a-join-that-cannot-be")
async def test_a_second_join_of_the_same_id_fails_and_the_first_session_works_on(
    sfu, documented
) -> None:
    first: list[Sent] = []
    second: list[Sent] = []
    await sfu.join(ALICE, first.append)
    with pytest.raises(JoinError) as refused:
        await sfu.join(dataclasses.replace(ALICE, call_id="another"), second.append)
    documented("a-join-that-cannot-be", str(refused.value))
    assert sfu.sessions("group", "another") is None
    assert sfu.session("alice") == ALICE
    await sfu.leave("alice")
    assert (first, second) == ([Close("alice")], [])


async def test_a_session_speaks_only_to_its_newest_outlet(sfu) -> None:
    old: list[Sent] = []
    new: list[Sent] = []
    await sfu.join(ALICE, old.append)
    assert sfu.rebind("alice", new.append) is True
    await sfu.leave("alice")
    assert (old, new) == ([], [Close("alice")])


async def test_two_leaves_at_once_end_in_one_close(sfu) -> None:
    sent: list[Sent] = []
    await sfu.join(ALICE, sent.append)
    await asyncio.gather(*(sfu.leave("alice") for _ in range(20)))
    assert sent == [Close("alice")]


async def test_a_hundred_sessions_come_and_go_at_once(sfu) -> None:
    sent: list[Sent] = []
    configs = [
        SessionConfig("group", f"call{number % 10}", "user", f"session{number}")
        for number in range(100)
    ]
    await asyncio.gather(*(sfu.join(config, sent.append) for config in configs))
    assert [len(sfu.sessions("group", f"call{number}")) for number in range(10)] == [10] * 10
    await asyncio.gather(*(sfu.leave(config.session_id) for config in configs))
    assert {message.session_id for message in sent} == {c.session_id for c in configs}
    assert len(sent) == 100
    assert [sfu.sessions("group", f"call{number}") for number in range(10)] == [None] * 10


async def test_the_end_of_the_media_plane_is_the_end_of_all_sessions(sfu) -> None:
    sent: list[Sent] = []
    await sfu.join(ALICE, sent.append)
    await sfu.join(dataclasses.replace(ALICE, session_id="bob"), sent.append)
    await sfu.close()
    assert sorted(message.session_id for message in sent) == ["alice", "bob"]
    assert all(isinstance(message, Close) for message in sent)
