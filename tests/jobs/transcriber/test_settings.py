"""The environment is read as calls-plugin.md 9.2 says, with the reference's messages."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from jobs.settings import SettingsError
from jobs.transcriber import __main__ as command
from jobs.transcriber.engines.remote_options import read_options
from jobs.transcriber.host import usable_cpus
from jobs.transcriber.settings import TranscriberSettings, read_settings
from jobs.transcriber.speech_settings import api_options

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
        pytest.param(
            {"MODEL_SIZE": "huge"},
            "ModelSize value is not valid",
            marks=pytest.mark.documents("a-model-size-of-another-name"),
        ),
        ({"LIVE_CAPTIONS_MODEL_SIZE": "huge"}, "LiveCaptionsModelSize value is not valid"),
        ({"OUTPUT_FORMAT": "srt"}, "OutputFormat value is not valid"),
        pytest.param(
            {"TRANSCRIBE_API": "magic"},
            "TranscribeAPI value is not valid",
            marks=pytest.mark.documents("an-unknown-speech-engine"),
        ),
        pytest.param(
            {"NUM_THREADS": "-1"},
            r"NumThreads should be in the range \[1, 8\]",
            marks=pytest.mark.documents("a-number-of-threads-out-of-range"),
        ),
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
def test_what_cannot_be_used_is_named(changes: dict[str, str], message: str, documented) -> None:
    with pytest.raises(SettingsError, match=f"^{message}") as refused:
        read_settings(GOOD | changes, cpus=8)
    documented.marked(str(refused.value))


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


def test_administrators_name_models_that_the_plugin_does_not_know() -> None:
    environ = GOOD | {"MODEL": "turbo", "MODEL_SIZE": "base", "LIVE_CAPTIONS_MODEL": "distil"}
    settings = read_settings(environ, cpus=2)
    assert (settings.model_size, settings.live_captions_model_size) == ("turbo", "distil")


@pytest.mark.parametrize("name", ["../../etc", ".hidden", "a/b", "a\\b"])
@pytest.mark.parametrize("variable", ["MODEL", "LIVE_CAPTIONS_MODEL", "FALLBACK_MODEL"])
def test_a_model_is_a_folder_of_models_dir_and_nothing_else(variable: str, name: str) -> None:
    with pytest.raises(SettingsError, match=f"^{variable}="):
        read_settings(GOOD | {variable: name}, cpus=2)


def test_languages_and_words_are_understood_and_slips_cost_only_themselves() -> None:
    settings = read_settings(
        GOOD
        | {
            "LANGUAGES": "de_at, EN; klingon,de-AT , French",
            "VOCABULARY": "Kubernetes, SFU;Projekt Adler\nKubernetes," + "x" * 60,
            "COMPUTE_TYPE": "float64",
        },
        cpus=2,
    )
    assert settings.languages == "de-AT,en,fr"
    assert settings.vocabulary == f"Kubernetes,SFU,Projekt Adler,{'x' * 50}"
    assert settings.compute_type == "auto"
    assert settings.warnings == (
        "COMPUTE_TYPE='float64': should be one of auto, int8, int8_float16, float16, float32",
        "LANGUAGES: 'klingon' is no language code such as en, de or pt-BR; it is left out",
        "VOCABULARY: 1 entries are longer than 50 characters and were cut",
    )
    assert "Kubernetes" not in repr(settings)
    assert read_settings(GOOD | {"LANGUAGES": "auto"}, cpus=2).languages == ""


@pytest.mark.parametrize(
    ("given", "language", "warnings"),
    [("", "en", 0), ("de", "de", 0), ("pt-BR", "pt-BR", 0), ("Auto", "", 0), ("xx", "en", 1)],
)
def test_the_language_of_captions(given: str, language: str, warnings: int) -> None:
    settings = read_settings(GOOD | {"LIVE_CAPTIONS_LANGUAGE": given}, cpus=2)
    assert settings.live_captions_language == language
    assert len(settings.warnings) == warnings


def test_a_long_vocabulary_is_cut() -> None:
    words = ",".join(f"w{number}" for number in range(150))
    settings = read_settings(GOOD | {"VOCABULARY": words}, cpus=2)
    assert len(settings.vocabulary.split(",")) == 100
    assert settings.warnings == ("VOCABULARY: 150 entries; the first 100 are used",)


@pytest.mark.parametrize(
    ("api", "options", "message"),
    [
        pytest.param(
            "azure",
            "null",
            "AZURE_SPEECH_KEY is missing",
            marks=pytest.mark.documents("azure-without-a-key"),
        ),
        ("azure", '{"AZURE_SPEECH_KEY": "k"}', "AZURE_SPEECH_REGION should be a region"),
        pytest.param(
            "azure",
            '{"AZURE_SPEECH_KEY": "k", "AZURE_SPEECH_REGION": "evil.example/"}',
            "AZURE_SPEECH_REGION should be a region such as westeurope$",
            marks=pytest.mark.documents("options-of-a-speech-service-of-another-form"),
        ),
        pytest.param(
            "azure",
            '{"AZURE_SPEECH_ENDPOINT": "ftp://user:secret@host"}',
            "AZURE_SPEECH_ENDPOINT should be an http or https address without a query$",
            marks=pytest.mark.documents("options-of-a-speech-service-of-another-form/2"),
        ),
        pytest.param(
            "openai/whisper",
            "null",
            "OPENAI_API_KEY is missing",
            marks=pytest.mark.documents("openai-without-a-key"),
        ),
        pytest.param(
            "openai/whisper",
            '{"OPENAI_API_KEY": "k", "SPEECH_TIMEOUT_S": "soon"}',
            r"SPEECH_TIMEOUT_S='soon': should be a whole number in the range \[1, 600\]",
            marks=pytest.mark.documents("options-of-a-speech-service-of-another-form/3"),
        ),
        pytest.param(
            "openai/whisper",
            '{"OPENAI_API_KEY": "k", "OPENAI_CAPTIONS": 3}',
            "OPENAI_CAPTIONS='3': should be true or false",
            marks=pytest.mark.documents("options-of-a-speech-service-of-another-form/4"),
        ),
    ],
)
def test_a_service_that_cannot_be_reached_is_refused_at_the_start(
    api: str, options: str, message: str, documented
) -> None:
    environ = GOOD | {"TRANSCRIBE_API": api, "TRANSCRIBE_API_OPTIONS": options}
    with pytest.raises(SettingsError, match=f"^TranscribeAPIOptions: {message}") as refused:
        read_settings(environ, cpus=2)
    documented.marked(str(refused.value))


@pytest.mark.parametrize(
    ("url", "allowed", "goes"),
    [
        ("https://speech.example.com/v1", "https://speech.example.com", True),
        ("https://speech.example.com:443", "http://other,https://speech.example.com", True),
        ("http://speech.example.com", "https://speech.example.com", False),
        ("https://speech.example.com:8443", "https://speech.example.com", False),
        ("https://speech.example.com@evil.example", "https://speech.example.com", False),
        ("http://169.254.169.254", "", False),
        ("https://api.openai.com/v1", "", True),
        ("https://westeurope.stt.speech.microsoft.com", "", True),
        ("https://x.stt.speech.microsoft.com.evil.example", "", False),
        ("http://[", "", False),
    ],
)
def test_speech_goes_only_where_the_service_allows_it(url: str, allowed: str, goes: bool) -> None:
    """Also of a job that an earlier release let in: it is finished with the local model then."""
    for named in (
        {"OPENAI_BASE_URL": url},
        {"TRANSCRIBE_API_OPTIONS": json.dumps({"AZURE_SPEECH_ENDPOINT": url})},
    ):
        assert (api_options(named | {"ALLOWED_SPEECH_URLS": allowed}) != "null") is goes
        assert api_options(named) != "null", "under a service that says nothing of it"


def test_options_may_come_as_variables_of_their_own() -> None:
    """The plugin's settings page has a key and a region and nothing else (calls-plugin.md 6.4, 6.5)."""
    settings = read_settings(
        GOOD
        | {
            "TRANSCRIBE_API": "azure",
            "TRANSCRIBE_API_OPTIONS": '{"AZURE_SPEECH_KEY": "k", "AZURE_SPEECH_REGION": "x"}',
            "AZURE_SPEECH_REGION": "westeurope",
            "SPEECH_MAX_REQUESTS": "2",
        },
        cpus=2,
    )
    options = read_options("azure", settings.transcribe_api_options)
    assert options.url == "https://westeurope.stt.speech.microsoft.com"
    assert (options.key, options.max_requests) == ("k", 2)
    assert "'k'" not in repr(options)
    local = read_options("openai/whisper", '{"OPENAI_BASE_URL": "http://gpu:8000/v1/"}')
    assert (local.url, local.key, local.model) == ("http://gpu:8000/v1", "", "whisper-1")


@pytest.mark.parametrize(
    ("quota", "cpus"),
    [("max 100000", None), ("150000 100000", 2), ("50000 100000", 1), ("?", None)],
)
def test_a_containers_share_of_the_processors_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cpus: int | None
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    group = tmp_path / "sys/fs/cgroup/jobs/one"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("1:cpu:/v1\n0::/jobs/one\n")
    (group.parent / "cpu.max").write_text(f"{quota}\n")
    assert usable_cpus(tmp_path) == (cpus or 64)
    assert usable_cpus(tmp_path / "nothing") == 64


def test_secrets_are_neither_shown_nor_kept() -> None:
    options = '{"AZURE_SPEECH_KEY": "azure-key"}'
    settings = read_settings(GOOD | {"TRANSCRIBE_API_OPTIONS": options}, cpus=2)
    for text in (repr(settings), str(settings.to_document())):
        assert "azure-key" not in text
        assert GOOD["AUTH_TOKEN"] not in text


def test_kept_settings_come_back(tmp_path: Path) -> None:
    environ = GOOD | {"DATA_DIR": str(tmp_path), "WEBVTT_OMIT_SPEAKER": "true", "NUM_THREADS": "2"}
    environ |= {"LANGUAGES": "de,en", "VOCABULARY": "SFU", "FALLBACK_MODEL": "tiny"}
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
            "the speech model that was asked for is not there",
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
    monkeypatch.setattr(command, "site_api", lambda _: api)
    assert command.main([]) == 1
    told = [("failed", f"{reported} (job {GOOD['TRANSCRIPTION_ID']})")]
    assert api.statuses == (told if reported else [])


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["dance"]) == 2
    assert "usage: python -m jobs.transcriber" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "context_s", "warnings"),
    [
        ("", 10, 0),
        ("30", 30, 0),
        ("12.5", 12.5, 0),
        ("5", 10, 1),
        ("31", 10, 1),
        ("nan", 10, 1),
        ("x", 10, 1),
    ],
)
def test_the_captions_context_is_8_to_30_s(text: str, context_s: float, warnings: int) -> None:
    settings = read_settings(GOOD | {"LIVE_CAPTIONS_CONTEXT_S": text}, cpus=2)
    assert settings.live_captions_context_s == context_s
    assert sum("LIVE_CAPTIONS_CONTEXT_S" in warning for warning in settings.warnings) == warnings
