from __future__ import annotations

from typing import Any

import pytest

from offloader.secrets import masked, shown


@pytest.mark.parametrize(
    ("key", "value", "kept"),
    [
        ("auth_token", "t0ken", "***"),
        ("azure_speech_key", "k", "***"),
        ("transcribe_api_options", '{"AZURE_SPEECH_KEY":"k"}', "***"),
        ("transcribe_api_options", {"AZURE_SPEECH_KEY": "k"}, "***"),
        ("transcribe_api_options", "null", "null"),
        ("some_setting_nobody_knows", 12345, "***"),
        ("https_proxy", "http://h", "***"),
        ("livekit_url", "wss://h?token=t", "***"),
        ("auth_token", "", ""),
        ("call_id", "abc", "abc"),
        ("CALL_ID", "abc", "abc"),
        ("width", 1280, 1280),
        ("live_captions_on", True, True),
        ("site_url", "https://user:pw@host/x?a=b@c", "https://***@host/x?a=b@c"),
        ("site_url", "https://host/a@b", "https://host/a@b"),
        ("call_id", {"hidden": "in a known key"}, "***"),
        ("call_id", ["hidden"], "***"),
        ("nothing", None, None),
        ("empty", {}, {}),
    ],
)
def test_only_what_is_known_to_be_harmless_is_shown_and_keys_stay(
    key: str, value: Any, kept: Any
) -> None:
    assert masked({key: value}) == shown({key: value}) == {key: kept}


def test_words_of_people_are_kept_for_the_next_transcript_and_shown_to_nobody() -> None:
    assert masked({"vocabulary": "Ada"}) == {"vocabulary": "Ada"}
    assert shown({"vocabulary": "Ada"}) == {"vocabulary": "***"}


def test_what_an_earlier_release_stored_is_shown_no_further() -> None:
    stored = {"auth_token": "***", "my_pin": "1234", "width": 1280}
    assert shown(stored) == {"auth_token": "***", "my_pin": "***", "width": 1280}
