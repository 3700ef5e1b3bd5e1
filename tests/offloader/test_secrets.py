from __future__ import annotations

import json
from typing import Any

import pytest

from offloader.secrets import masked


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("auth_token", "t0ken", "***"),
        ("AUTH_TOKEN", "t0ken", "***"),
        ("azure_speech_key", "k", "***"),
        ("transcribe_api_options", '{"AZURE_SPEECH_KEY":"k"}', "***"),
        ("transcribe_api_options", "null", "null"),
        ("some_password", 12345, "***"),
        ("auth_token", "", ""),
        ("call_id", "abc", "abc"),
        ("width", 1280, 1280),
        ("live_captions_on", True, True),
        ("site_url", "https://user:pw@host/x?a=b@c", "https://***@host/x?a=b@c"),
        ("site_url", "https://host/a@b", "https://host/a@b"),
        ("nested", {"token": "t", "plain": [1, "x"]}, {"token": "***", "plain": [1, "x"]}),
        ("list", [{"secret": "s"}], [{"secret": "***"}]),
        ("options", '{"api_key": "k", "n": 1}', json.dumps({"api_key": "***", "n": 1})),
        ("options", '{"n":  1}', '{"n":  1}'),
        ("options", "{no json", "{no json"),
        ("nothing", None, None),
    ],
)
def test_secret_values_are_masked_and_keys_stay(key: str, value: Any, shown: Any) -> None:
    assert masked({key: value}) == {key: shown}
