"""Wishes in the plugin's environment: each has a default; a bad one costs a warning, never a recording."""

from __future__ import annotations

import json

import pytest

from jobs.recorder.options import ARTIFACTS, ENCODERS, LAYOUTS, QUALITIES, Options, read_options
from jobs.recorder.settings import RecorderSettings, read_settings
from offloader.backends.environment import job_environment

ID = "abcdefghijklmnopqrstuvwxyz"
BASE = {
    "SITE_URL": "http://127.0.0.1:8065",
    "CALL_ID": ID,
    "POST_ID": ID,
    "RECORDING_ID": ID,
    "AUTH_TOKEN": ID,
}


def test_without_wishes_everything_is_as_the_plugin_expects() -> None:
    assert read_options({}) == Options()
    assert (
        read_options(dict.fromkeys(("LAYOUT", "QUALITY", "ARTIFACTS", "ENCODER"), "")) == Options()
    )


@pytest.mark.parametrize(
    ("variable", "field", "values"),
    [
        ("LAYOUT", "layout", LAYOUTS),
        ("QUALITY", "quality", QUALITIES),
        ("ENCODER", "encoder", ENCODERS),
    ],
)
def test_every_choice_is_taken_whatever_its_case(
    variable: str, field: str, values: tuple[str, ...]
) -> None:
    for value in values:
        options = read_options({variable: f" {value.upper()} "})
        assert (getattr(options, field), options.warnings) == (value, ())


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("1", True), ("F", False), ("0", False)]
)
def test_truth_has_the_forms_of_the_plugin(text: str, value: bool) -> None:
    assert read_options({"AUDIO_ONLY": text}).audio_only is value
    assert read_options({"CHAPTERS": text}).chapters is value


@pytest.mark.parametrize(
    ("variable", "value", "warning"),
    [
        ("AUDIO_ONLY", "maybe", "AUDIO_ONLY = 'maybe' should be true or false; false is used"),
        ("CHAPTERS", "no", "CHAPTERS = 'no' should be true or false; true is used"),
        pytest.param(
            "LAYOUT",
            "Mosaic",
            "LAYOUT = 'Mosaic' should be one of auto, grid, screen, speaker; auto is used",
            marks=pytest.mark.documents("a-setting-that-is-corrected"),
        ),
        (
            "QUALITY",
            "11",
            "QUALITY = '11' should be one of low, medium, high, best; medium is used",
        ),
        (
            "ENCODER",
            "h265",
            "ENCODER = 'h265' should be one of software, auto, nvenc, qsv; software is used",
        ),
        pytest.param(
            "FRAME_RATE_CAP",
            "61",
            "FRAME_RATE_CAP = '61' should be a whole number from 2 to 60; 60 is used",
            marks=pytest.mark.documents("a-setting-that-is-corrected/2"),
        ),
        (
            "FRAME_RATE_CAP",
            "²",
            "FRAME_RATE_CAP = '²' should be a whole number from 2 to 60; 60 is used",
        ),
        pytest.param(
            "ARTIFACTS",
            "poster, video",
            "ARTIFACTS = 'poster, video' should be a list of chapters, poster, speakers with commas; "
            "poster is used",
            marks=pytest.mark.documents("a-setting-that-is-corrected/3"),
        ),
    ],
)
def test_a_bad_value_is_named_with_its_form_and_what_is_used(
    variable: str, value: str, warning: str, documented
) -> None:
    settings = read_settings({**BASE, variable: value})
    assert settings.warnings == (warning,)
    documented.marked(settings.warnings[0])


def test_a_long_value_does_not_flood_the_log() -> None:
    (warning,) = read_options({"LAYOUT": "x" * 10_000}).warnings
    assert len(warning) < 250


@pytest.mark.parametrize(("cap", "rate"), [("5", 5), ("30", 20), ("0", 20), ("", 20)])
def test_the_cap_lowers_the_frame_rate_and_never_raises_it(cap: str, rate: int) -> None:
    settings = read_settings({**BASE, "FRAME_RATE": "20", "FRAME_RATE_CAP": cap})
    assert (settings.frame_rate, settings.warnings) == (rate, ())


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("all", ",".join(ARTIFACTS)),
        ("none", ""),
        ("poster,chapters", "chapters,poster"),
        (" Speakers ,", "speakers"),
    ],
)
def test_artifacts_are_a_list(text: str, names: str) -> None:
    options = read_options({"ARTIFACTS": text})
    assert (options.artifacts, options.warnings) == (names, ())


def test_the_plugin_s_environment_reaches_the_recorder_through_the_job_service() -> None:
    # As the plugin does with MM_CALLS_RECORDER_<X> (calls-plugin.md 6.5).
    wishes = {
        "MM_CALLS_RECORDER_AUDIO_ONLY": "true",
        "MM_CALLS_RECORDER_LAYOUT": "speaker",
        "MM_CALLS_RECORDER_FRAME_RATE_CAP": "7",
        "MM_CALLS_RECORDER_QUALITY": "best",
        "MM_CALLS_RECORDER_ENCODER": "auto",
        "MM_CALLS_RECORDER_CHAPTERS": "false",
        "MM_CALLS_RECORDER_ARTIFACTS": "all",
    }
    prefix = "MM_CALLS_RECORDER_"
    passed = {name.removeprefix(prefix).lower(): value for name, value in wishes.items()}
    plain = {name.lower(): value for name, value in BASE.items()}
    environment = job_environment({**plain, "frame_rate": 20, **passed})
    assert environment.dropped == ()
    settings = read_settings(environment.variables)
    assert (settings.audio_only, settings.layout, settings.frame_rate) == (True, "speaker", 7)
    assert (settings.quality, settings.encoder, settings.chapters) == ("best", "auto", False)
    assert settings.artifacts == "chapters,poster,speakers"


def test_a_dead_job_s_wishes_are_known_to_who_finishes_it(tmp_path) -> None:
    settings = read_settings({**BASE, "ARTIFACTS": "poster", "CHAPTERS": "false", "LAYOUT": "grid"})
    document = json.loads(json.dumps(settings.to_document()))
    again = RecorderSettings.from_document(
        document, auth_token=ID, directory=tmp_path / settings.job_id
    )
    assert (again.wants("poster"), again.wants("speakers")) == (True, False)
    assert (again.chapters, again.layout) == (False, "grid")
