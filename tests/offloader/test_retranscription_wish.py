"""What may be wished for when kept audio is transcribed again: checked by name, value and wanted form."""

from __future__ import annotations

from typing import Any

import pytest

from offloader.errors import InvalidJob
from offloader.models import JobType
from offloader.retranscription_wish import RetranscriptionWish, name_of
from offloader.speech_keys import speech_variables

LOCAL = {"transcribe_api": "whisper.cpp", "model_size": "base"}
AZURE = {"transcribe_api": "azure"}


def refusal(own: dict[str, Any], **members: Any) -> str:
    with pytest.raises(InvalidJob) as refused:
        RetranscriptionWish(**members).check(own)
    return str(refused.value)


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"engine": "whisper"}, ("engine", "whisper", "openai/whisper")),
        ({"model": "../etc"}, ("model", "../etc", "folder in MODELS_DIR")),
        ({"model": "a/b"}, ("model", "a/b", "folder")),
        ({"model": "x", "engine": "azure"}, ("model", "azure has no models")),
        ({"model": " ", "engine": "openai/whisper"}, ("model", "whisper-1")),
        ({"language": "german"}, ("language", "german", "de or pt-BR")),
        ({"language": "de,,en"}, ("language", "de,,en")),
        ({"vocabulary": ["a,b"]}, ("vocabulary", "a,b", "without commas")),
        ({"vocabulary": [""]}, ("vocabulary", "1 to 100")),
        ({"vocabulary": ["w"] * 101}, ("vocabulary", "101 entries", "at most 100")),
        ({"engine_options": {"OPENAI_API_KEY": "k3y"}}, ("engine_options", "whisper.cpp")),
        (
            {"engine": "azure", "engine_options": {"PATH": "k3y"}},
            ("engine_options", "PATH", "AZURE_SPEECH_KEY"),
        ),
        (
            {"engine": "azure", "engine_options": {"AZURE_SPEECH_KEY": ["k3y"]}},
            ("engine_options.AZURE_SPEECH_KEY", "a text"),
        ),
        ({"auth_token": "t0ken"}, ("auth_token", "without publish")),
        ({"auth_token": "t0 ken", "publish": True}, ("auth_token", "a token")),
    ],
)
def test_what_cannot_be_is_named_with_its_wanted_form_and_no_secret(
    members: dict[str, Any], named: tuple[str, ...]
) -> None:
    text = refusal(LOCAL, **members)
    for part in named:
        assert part in text
    assert "k3y" not in text
    assert "t0ken" not in text


def test_what_differs_becomes_variables_of_the_job() -> None:
    wish = RetranscriptionWish(
        model="large-v3", language="de, pt-BR", vocabulary=["Ada Lovelace", "Zürich"]
    )
    wish.check(LOCAL)
    assert wish.variables(LOCAL) == {
        "MODEL": "large-v3",
        "LANGUAGES": "de,pt-BR",
        "VOCABULARY": "Ada Lovelace,Zürich",
    }
    assert RetranscriptionWish().variables(LOCAL) == {}
    assert RetranscriptionWish(vocabulary=[]).variables(LOCAL) == {"VOCABULARY": ""}


def test_a_model_is_meant_for_the_engine_that_will_use_it() -> None:
    assert RetranscriptionWish(model="small").variables(AZURE) == {
        "TRANSCRIBE_API": "faster-whisper",
        "MODEL": "small",
    }
    by_service = RetranscriptionWish(engine="openai/whisper", model="Systran/large-v3")
    by_service.check(LOCAL)
    assert by_service.variables(LOCAL) == {
        "TRANSCRIBE_API": "openai/whisper",
        "OPENAI_MODEL": "Systran/large-v3",
    }


def test_keys_are_no_part_of_what_is_stored_and_shown() -> None:
    wish = RetranscriptionWish(
        engine="azure",
        engine_options={"AZURE_SPEECH_KEY": "k3y", "SPEECH_MAX_REQUESTS": 2},
    )
    wish.check(LOCAL)
    assert wish.variables(LOCAL) == {"TRANSCRIBE_API": "azure"}
    assert wish.secret_variables() == {"AZURE_SPEECH_KEY": "k3y", "SPEECH_MAX_REQUESTS": "2"}
    assert "k3y" not in repr(wish)


def test_equal_wishes_have_one_name_and_others_another() -> None:
    small = RetranscriptionWish(model="small")
    assert name_of(small.variables(LOCAL)) == name_of(
        RetranscriptionWish(model="small", publish=True).variables(LOCAL)
    )
    assert name_of(small.variables(LOCAL)) != name_of(RetranscriptionWish().variables(LOCAL))


def test_what_names_the_speech_service_is_found_in_the_input() -> None:
    given = {
        "transcribe_api_options": '{"AZURE_SPEECH_KEY":"k"}',
        "openai_base_url": "http://speech",
        "speech_timeout_s": 30,
        "model_size": "base",
        "auth_token": "t",
    }
    assert speech_variables(JobType.TRANSCRIBING, given) == {
        "TRANSCRIBE_API_OPTIONS": '{"AZURE_SPEECH_KEY":"k"}',
        "OPENAI_BASE_URL": "http://speech",
        "SPEECH_TIMEOUT_S": "30",
    }
    assert speech_variables(JobType.TRANSCRIBING, {"transcribe_api_options": "null"}) == {}
    assert speech_variables(JobType.RECORDING, given) == {}
