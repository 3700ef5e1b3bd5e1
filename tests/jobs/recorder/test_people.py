"""People are looked up once, at first sight, and shown without what cannot be found."""

from __future__ import annotations

import asyncio

import pytest

from callclient.plugin_api import ApiError, UserProfile
from jobs.recorder.people import People


@pytest.fixture
def found() -> list[None]:
    return []


@pytest.fixture
def people(api, found) -> People:
    return People(api, channel_id="c", on_found=lambda: found.append(None), face=bytes)


async def test_name_and_picture_are_there_after_the_lookup(api, people, found) -> None:
    api.images["user-alice"] = b"png"
    assert people.find("session-alice") is None
    await people.look_up("session-alice", "user-alice")
    person = people.find("session-alice")
    assert person is not None
    assert (person.user_id, person.name, person.picture) == ("user-alice", "Alice Test", b"png")
    assert len(found) == 1


async def test_who_left_already_is_found_by_user_id(api, people) -> None:
    api.users["user-dave"] = UserProfile("user-dave", "dave", "", "")
    await people.look_up("session-dave", "user-dave")
    person = people.find("session-dave")
    assert person is not None
    assert (person.name, person.picture) == ("dave", b"")


async def test_nobody_is_invisible_for_lack_of_an_answer(people) -> None:
    await people.look_up("session-eve", "user-eve")
    person = people.find("session-eve")
    assert person is not None
    assert person.name == "Unknown participant"


async def test_first_sight_is_once() -> None:
    people = People(None, channel_id="c", on_found=lambda: None, face=bytes)
    assert [people.first_sight("s") for _ in range(2)] == [True, False]


async def test_two_sessions_of_a_user_share_one_download(api, people, monkeypatch) -> None:
    asked = []

    async def image(user_id: str) -> bytes:
        asked.append(user_id)
        await asyncio.sleep(0)
        return b"png"

    monkeypatch.setattr(api, "user_image", image)
    api.profiles["session-2"] = api.profiles["session-alice"]
    await asyncio.gather(
        people.look_up("session-alice", "user-alice"), people.look_up("session-2", "user-alice")
    )
    assert asked == ["user-alice"]
    assert people.find("session-2").picture == b"png"


@pytest.mark.looptime
async def test_an_answer_that_may_change_is_asked_for_again(api, people, monkeypatch) -> None:
    answers = [ApiError("429", status=429, retryable=True), api.profiles["session-bob"]]

    async def profile(channel_id: str, session_id: str) -> UserProfile:
        answer = answers.pop(0)
        if isinstance(answer, ApiError):
            raise answer
        return answer

    monkeypatch.setattr(api, "profile", profile)
    await people.look_up("session-bob", "user-bob")
    assert people.find("session-bob").name == "Bob Test"


async def test_of_a_picture_only_what_was_made_of_it_is_kept(api) -> None:
    people = People(api, channel_id="c", on_found=lambda: None, face=lambda file: file[::-1])
    api.images["user-alice"] = b"png"
    await people.look_up("session-alice", "user-alice")
    assert people.find("session-alice").picture == b"gnp"


async def test_the_short_name_is_kept_too(api, people) -> None:
    await people.look_up("session-alice", "user-alice")
    assert people.find("session-alice").short_name == "Alice T."
