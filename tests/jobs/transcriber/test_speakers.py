"""Names are found at first sight, kept on disk, and never invented."""

from __future__ import annotations

from pathlib import Path

import pytest

from callclient.plugin_api import ApiError, UserProfile
from jobs.transcriber.speakers import SpeakerDirectory

pytestmark = pytest.mark.looptime


async def _look_up(speakers: SpeakerDirectory, api, *, user_id: str = "user-bob") -> None:
    await speakers.look_up(api, channel_id="c", session_id="session-bob", user_id=user_id)


async def test_a_name_is_asked_for_once_and_survives_the_process(api, tmp_path: Path) -> None:
    speakers = SpeakerDirectory(tmp_path)
    await _look_up(speakers, api)
    await _look_up(speakers, api)
    assert api.lookups == ["session-bob"]
    assert speakers.name("session-bob") == "Bob Test"
    assert SpeakerDirectory.load(tmp_path).name("session-bob") == "Bob Test"
    assert (tmp_path / "speakers.json").stat().st_mode & 0o777 == 0o600


async def test_a_busy_server_is_asked_again(api, tmp_path: Path) -> None:
    answers = [ApiError("GET: refused with HTTP 503", status=503, retryable=True)] * 3
    original = api.profile

    async def profile(channel_id: str, session_id: str) -> UserProfile:
        if answers:
            raise answers.pop()
        return await original(channel_id, session_id)

    api.profile = profile
    speakers = SpeakerDirectory(tmp_path)
    await _look_up(speakers, api)
    assert speakers.name("session-bob") == "Bob Test"


async def test_who_left_already_is_found_by_user_id(api, tmp_path: Path) -> None:
    api.users["user-bob"] = api.profiles.pop("session-bob")
    speakers = SpeakerDirectory(tmp_path)
    await _look_up(speakers, api)
    assert speakers.name("session-bob") == "Bob Test"


@pytest.mark.parametrize("user_id", ["user-bob", ""])
async def test_who_cannot_be_found_is_unknown_and_asked_for_again_later(
    api, tmp_path: Path, user_id: str
) -> None:
    profile = api.profiles.pop("session-bob")
    speakers = SpeakerDirectory(tmp_path)
    await _look_up(speakers, api, user_id=user_id)
    assert speakers.name("session-bob") == "Unknown speaker"
    api.profiles["session-bob"] = profile
    await _look_up(speakers, api, user_id=user_id)
    assert speakers.name("session-bob") == "Bob Test"


async def test_a_disk_that_refuses_does_not_cost_the_name(api, tmp_path: Path) -> None:
    speakers = SpeakerDirectory(tmp_path / "missing")
    await _look_up(speakers, api)
    assert speakers.name("session-bob") == "Bob Test"


@pytest.mark.parametrize("content", ["", "[]", '{"s": 1}', '{"s": {}}'])
def test_a_damaged_file_means_unknown_names(tmp_path: Path, content: str) -> None:
    (tmp_path / "speakers.json").write_text(content)
    assert SpeakerDirectory.load(tmp_path).name("s") == "Unknown speaker"
