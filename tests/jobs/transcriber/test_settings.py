"""The environment is read as calls-plugin.md 9.2 says, with the reference's messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.settings import SettingsError
from jobs.transcriber import __main__ as command
from jobs.transcriber.settings import TranscriberSettings, read_settings

ID = "abcdefghijklmnopqrstuvwxy"
MODELS = Path(__file__).parents[3] / "models"
GOOD = {
    "SITE_URL": "http://127.0.0.1:8065/",
    "CALL_ID": ID + "c",
    "POST_ID": ID + "p",
    "AUTH_TOKEN": ID + "s",
    "TRANSCRIPTION_ID": ID + "t",
}


def test_defaults() -> None:
    settings = read_settings(GOOD, cpus=8)
    assert settings == TranscriberSettings(
        site_url="http://127.0.0.1:8065",
        call_id=ID + "c",
        post_id=ID + "p",
        job_id=ID + "t",
        auth_token=ID + "s",
        num_threads=4,
        live_captions_threads=1,
    )
    assert settings.threads == 4


@pytest.mark.parametrize(
    ("captions", "cpus", "threads"),
    [("true", 8, 2), ("true", 4, 2), ("true", 2, 1), ("false", 1, 1), ("", 16, 8)],
)
def test_default_threads_depend_on_captions_and_machine(
    captions: str, cpus: int, threads: int
) -> None:
    settings = read_settings(GOOD | {"LIVE_CAPTIONS_ON": captions}, cpus=cpus)
    assert settings.num_threads == threads


def test_what_the_plugin_sends_as_text_is_understood() -> None:
    """Trap 40: overridden inputs are texts; trap 39: options are the four letters null."""
    settings = read_settings(
        GOOD
        | {
            "TRANSCRIBE_API": "whisper.cpp",
            "TRANSCRIBE_API_OPTIONS": "null",
            "MODEL_SIZE": "tiny",
            "OUTPUT_FORMAT": "vtt",
            "NUM_THREADS": "2",
            "LIVE_CAPTIONS_ON": "True",
            "LIVE_CAPTIONS_MODEL_SIZE": "base",
            "LIVE_CAPTIONS_NUM_TRANSCRIBERS": "2",
            "LIVE_CAPTIONS_NUM_THREADS_PER_TRANSCRIBER": "1",
            "LIVE_CAPTIONS_LANGUAGE": "de",
            "WEBVTT_OMIT_SPEAKER": "1",
            "TEXT_COMPACT_SILENCE_THRESHOLD_MS": "500",
            "TEXT_COMPACT_MAX_SEGMENT_DURATION_MS": "3000",
        },
        cpus=2,
    )
    assert settings.live_captions_on
    assert settings.live_captions_language == "de"
    assert settings.webvtt_omit_speaker
    assert settings.text_options.silence_threshold_ms == 500
    assert settings.text_options.max_segment_duration_ms == 3000
    assert settings.threads == 2
    assert settings.warnings == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MODEL_SIZE": "huge"}, "ModelSize value is not valid"),
        ({"LIVE_CAPTIONS_MODEL_SIZE": "huge"}, "LiveCaptionsModelSize value is not valid"),
        ({"OUTPUT_FORMAT": "srt"}, "OutputFormat value is not valid"),
        ({"TRANSCRIBE_API": "magic"}, "TranscribeAPI value is not valid"),
        ({"NUM_THREADS": "-1"}, r"NumThreads should be in the range \[1, 8\]"),
        ({"NUM_THREADS": "two"}, "failed to parse NumThreads: NUM_THREADS='two'"),
        (
            {"LIVE_CAPTIONS_ON": "true", "LIVE_CAPTIONS_NUM_TRANSCRIBERS": "-1"},
            r"LiveCaptionsNumTranscribers \* LiveCaptionsNumThreadsPerTranscriber should be "
            r"in the range \[1, 8\]",
        ),
        (
            {"TEXT_COMPACT_SILENCE_THRESHOLD_MS": "-5"},
            "SilenceThresholdMs should be a positive number",
        ),
        (
            {"TEXT_COMPACT_MAX_SEGMENT_DURATION_MS": "-5"},
            "MaxSegmentDurationMs should be a positive number",
        ),
        ({"TRANSCRIBE_API_OPTIONS": "{"}, "failed to parse TranscribeAPIOptions"),
        ({"TRANSCRIBE_API_OPTIONS": "[]"}, "failed to parse TranscribeAPIOptions"),
        ({"TRANSCRIPTION_ID": ""}, "TranscriptionID cannot be empty"),
        ({"TRANSCRIPTION_ID": "x"}, "TranscriptionID parsing failed"),
        ({"PUBLISH_AFTER_S": "soon"}, "PUBLISH_AFTER_S='soon': should be a whole number"),
    ],
)
def test_what_cannot_be_used_is_named(changes: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=f"^{message}"):
        read_settings(GOOD | changes, cpus=8)


def test_too_many_threads_are_clamped_with_a_warning() -> None:
    """The plugin's defaults ask for two threads; a machine with one must not lose its transcript."""
    settings = read_settings(
        GOOD | {"NUM_THREADS": "64", "LIVE_CAPTIONS_ON": "true"},
        cpus=1,
    )
    assert settings.num_threads == 1
    assert settings.live_captions_threads == 1
    assert settings.warnings == (
        "NumThreads = 64 should be in the range [1, 1]; 1 is used",
        "LiveCaptionsNumTranscribers * LiveCaptionsNumThreadsPerTranscriber = 2 should be in the "
        "range [1, 1]; 1 is used",
    )


def test_caption_threads_do_not_matter_when_captions_are_off() -> None:
    settings = read_settings(GOOD | {"LIVE_CAPTIONS_NUM_TRANSCRIBERS": "-9"}, cpus=2)
    assert settings.threads == 1


def test_any_model_folder_is_a_size(tmp_path: Path) -> None:
    (tmp_path / "distil-de").mkdir()
    (tmp_path / "distil-de" / "model.bin").touch()
    environ = GOOD | {"MODELS_DIR": str(tmp_path), "MODEL_SIZE": "distil-de"}
    assert read_settings(environ, cpus=2).model_size == "distil-de"


def test_secrets_are_neither_shown_nor_kept() -> None:
    options = '{"AZURE_SPEECH_KEY": "azure-key"}'
    settings = read_settings(GOOD | {"TRANSCRIBE_API_OPTIONS": options}, cpus=2)
    for text in (repr(settings), str(settings.to_document())):
        assert "azure-key" not in text
        assert GOOD["AUTH_TOKEN"] not in text


def test_kept_settings_come_back(tmp_path: Path) -> None:
    environ = GOOD | {"DATA_DIR": str(tmp_path), "WEBVTT_OMIT_SPEAKER": "true", "NUM_THREADS": "2"}
    settings = read_settings(environ, cpus=2)
    again = TranscriberSettings.from_document(
        settings.to_document(), auth_token=settings.auth_token, directory=settings.directory
    )
    assert again == settings


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        (
            {"MODELS_DIR": "/nowhere"},
            "failed to create Transcriber: no model 'base' in /nowhere (a folder base with "
            "model.bin is needed); there is: no model",
        ),
        (
            {"MODELS_DIR": str(MODELS), "OUTPUT_FORMAT": "srt"},
            "failed to create Transcriber: OutputFormat value is not valid",
        ),
        ({"CALL_ID": "x"}, None),
    ],
)
def test_invalid_settings_are_reported_if_they_can_be_and_exit_with_1(
    api, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], reported: str | None
) -> None:
    for variable, value in (GOOD | changes).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(command, "PluginApi", lambda **_: api)
    assert command.main([]) == 1
    assert api.statuses == ([("failed", reported)] if reported else [])


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["dance"]) == 2
    assert "usage: python -m jobs.transcriber" in capsys.readouterr().err
