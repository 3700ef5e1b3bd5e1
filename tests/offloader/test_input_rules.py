"""What clients may send in `input_data`: bounds, names, speech services, ceilings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from offloader.backends.surroundings import Surroundings
from offloader.ceilings import under_ceilings
from offloader.errors import InvalidJob
from offloader.job_wish import JobWish, check_speech, check_wish
from offloader.models import JobType
from offloader.setting_groups import JobsSettings
from offloader.settings import load_settings

SPEECH = "https://speech.example.com"


def jobs_settings(**environ: str) -> JobsSettings:
    return load_settings(Path("/nonexistent"), {"JOBS_APITYPE": "process", **environ}).jobs


def wish(input_data: dict[str, Any], *, max_duration_s: int = 60) -> JobWish:
    return JobWish("recording", "mattermost/calls-recorder:v0.8.13", max_duration_s, input_data)


def nested(levels: int) -> Any:
    return [nested(levels - 1)] if levels else "x"


@pytest.mark.parametrize(
    "input_data",
    [
        pytest.param(
            {f"k{number}": 1 for number in range(129)},
            marks=pytest.mark.documents("too-many-entries"),
        ),
        pytest.param({"k" * 129: 1}, marks=pytest.mark.documents("a-name-that-is-too-long")),
        pytest.param(
            {"note": "x" * (32 * 1024 + 1)}, marks=pytest.mark.documents("a-value-that-is-too-long")
        ),
        pytest.param(
            {"note": ["ü" * (16 * 1024)]}, marks=pytest.mark.documents("a-value-that-is-too-long")
        ),
        pytest.param(
            {f"k{number}": "x" * (22 * 1024) for number in range(3)},
            marks=pytest.mark.documents("an-input-that-is-too-large"),
        ),
        pytest.param(
            {"note": nested(9)}, marks=pytest.mark.documents("an-input-that-is-nested-too-deeply")
        ),
        pytest.param(
            {"note": [{"n": float("-inf")}]},
            marks=pytest.mark.documents("a-number-beyond-all-bounds"),
        ),
        pytest.param({"note": "\ud800"}, marks=pytest.mark.documents("half-a-character")),
    ],
)
def test_sizes_and_counts_are_bounded(input_data: dict[str, Any], documented: Any) -> None:
    with pytest.raises(InvalidJob) as refused:
        check_wish(wish(input_data), settings=jobs_settings())
    documented.marked(str(refused.value))


def test_what_grows_when_it_is_written_down_counts_as_it_is_written() -> None:
    with pytest.raises(InvalidJob, match=f"{6 * 16 * 1024 + 4} bytes: should be at most 65536"):
        check_wish(wish({"note": "\x01" * (16 * 1024)}), settings=jobs_settings())


def test_what_is_just_within_the_bounds_is_taken() -> None:
    for fine in (
        {f"k{number}": 1 for number in range(128)},
        {"k" * 128: 1, "note": "x" * (32 * 1024)},
        {"a": "x" * (32 * 1024 - 1), "b": "x" * (32 * 1024 - 1)},
        {"note": nested(8)},
    ):
        check_wish(wish(fine), settings=jobs_settings())


@pytest.mark.parametrize(
    "key", ["model_size", "MODEL", "Live_Captions_Model_Size", "fallback_model"]
)
@pytest.mark.parametrize("path", ["../other", "/etc", "a/b", ".hidden", "a\\b", "..", "a\nb"])
@pytest.mark.documents("a-model-that-is-no-name")
def test_a_model_is_a_name_and_never_a_path(key: str, path: str, documented: Any) -> None:
    with pytest.raises(InvalidJob) as refused:
        check_wish(wish({key: path}), settings=jobs_settings())
    documented("a-model-that-is-no-name", str(refused.value))


@pytest.mark.parametrize("name", ["base", "large-v3", "distil-large-v3.5", "", None])
def test_models_as_people_name_them_are_taken(name: Any) -> None:
    check_wish(wish({"model_size": name}), settings=jobs_settings())


def ways_to_name(url: str) -> list[dict[str, Any]]:
    return [
        {"openai_base_url": url},
        {"AZURE_Speech_Endpoint": url},
        {"transcribe_api_options": json.dumps({"OPENAI_BASE_URL": url})},
        {"TRANSCRIBE_API_OPTIONS": {"AZURE_SPEECH_ENDPOINT": url}},
    ]


@pytest.mark.documents("a-speech-service-that-is-not-allowed")
@pytest.mark.parametrize(
    "url",
    [
        SPEECH,
        "http://127.0.0.1:9/v1?key=sesame",
        "http://169.254.169.254/latest",
        "https://api.openai.com.evil.example/v1",
        "https://api.openai.com:8443",
        "http://api.openai.com",
    ],
)
def test_speech_goes_to_no_server_that_the_admin_has_not_named(url: str, documented: Any) -> None:
    for input_data in ways_to_name(url):
        with pytest.raises(InvalidJob) as refused:
            check_wish(wish(input_data), settings=jobs_settings())
        assert "sesame" not in str(refused.value)
        documented("a-speech-service-that-is-not-allowed", str(refused.value))


@pytest.mark.documents("a-speech-services-address-of-another-form")
@pytest.mark.parametrize(
    "url", ["ftp://speech", "https://me:secret@speech.example.com", "speech", "http://["]
)
def test_an_address_of_another_form_is_refused_without_repeating_it(
    url: str, documented: Any
) -> None:
    listed = jobs_settings(JOBS_ALLOWEDSPEECHURLS=f'["{SPEECH}"]')
    with pytest.raises(InvalidJob) as refused:
        check_wish(wish({"openai_base_url": url}), settings=listed)
    assert "secret" not in str(refused.value)
    documented("a-speech-services-address-of-another-form", str(refused.value))


def test_the_vendors_own_servers_and_those_of_the_list_are_allowed() -> None:
    listed = jobs_settings(JOBS_ALLOWEDSPEECHURLS=f'["{SPEECH}/"]')
    own = ("https://api.openai.com/v1", "https://westeurope.stt.speech.microsoft.com", "")
    for url in (*own, f"{SPEECH}:443/v1/", "HTTPS://Speech.Example.com/x"):
        for input_data in ways_to_name(url):
            check_wish(wish(input_data), settings=listed)
    check_wish(wish({"transcribe_api_options": "null"}), settings=listed)


def test_options_for_another_transcript_are_bound_in_the_same_way() -> None:
    with pytest.raises(InvalidJob, match=r"^invalid engine_options value: .*not among"):
        check_speech(
            {"OPENAI_BASE_URL": SPEECH},
            network=jobs_settings().network,
            prefix="invalid engine_options value: ",
        )


def test_a_job_that_is_to_talk_to_a_service_is_told_which_it_may() -> None:
    around = Surroundings(jobs_settings(JOBS_ALLOWEDSPEECHURLS=f'["{SPEECH}"]').network)
    told = around.variables(
        {"OPENAI_BASE_URL": "https://x", "ALLOWED_SPEECH_URLS": "all"}, ca_path=None
    )
    assert told["ALLOWED_SPEECH_URLS"] == SPEECH
    assert "ALLOWED_SPEECH_URLS" not in around.variables({"WIDTH": "1"}, ca_path=None)


LOW = {
    "JOBS_MAXDURATIONS": "3600",
    "JOBS_MAXWIDTHPX": "1280",
    "JOBS_MAXHEIGHTPX": "720",
    "JOBS_MAXFRAMERATE": "15",
}


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (
            {"width": 3840, "height": 2160, "frame_rate": 60},
            {"width": 1280, "height": 720, "frame_rate": 15},
        ),
        (
            {"WIDTH": "1920", "height": "x", "frame_rate": "3e9"},
            {"WIDTH": 1280, "height": 720, "frame_rate": 15},
        ),
        ({}, {"width": 1280, "height": 720, "frame_rate": 15}),
        (
            {"width": 1280, "height": "0", "frame_rate": 10},
            {"width": 1280, "height": 720, "frame_rate": 10},
        ),
        ({"width": 1, "WIDTH": 9999}, {"width": 1, "WIDTH": 1280, "height": 720, "frame_rate": 15}),
    ],
)
def test_sizes_and_rates_come_down_to_the_services_ceilings(
    asked: dict[str, Any], given: dict[str, Any]
) -> None:
    """The recorder's own defaults, too; what is no number counts as the default."""
    used, told = under_ceilings(wish(asked), JobType.RECORDING, jobs_settings(**LOW).ceilings)
    assert used.input_data == given
    assert all("is more than this service allows" in text for text in told)
    assert told


def test_a_duration_comes_down_for_every_type_and_pictures_only_for_those_that_have_them() -> None:
    ceilings = jobs_settings(**LOW).ceilings
    used, told = under_ceilings(wish({}, max_duration_s=7200), JobType.TRANSCRIBING, ceilings)
    assert (used.max_duration_s, used.input_data) == (3600, {})
    assert told == ("max_duration_sec = 7200 is more than this service allows; 3600 is used",)


def test_with_the_defaults_everything_that_the_plugin_asks_for_stays() -> None:
    high = {"width": 3840, "height": 2160, "frame_rate": 60}
    for input_data in (high, {}):
        asked = wish(input_data, max_duration_s=6 * 3600)
        assert under_ceilings(asked, JobType.RECORDING, jobs_settings().ceilings) == (asked, ())
