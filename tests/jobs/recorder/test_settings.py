"""The recorder's environment is checked with the reference's rules and texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.recorder.settings import PRESETS, RecorderSettings, read_settings
from jobs.settings import SettingsError

ID = "abcdefghijklmnopqrstuvwxyz"
BASE = {
    "SITE_URL": "http://127.0.0.1:8065",
    "CALL_ID": ID,
    "POST_ID": ID,
    "RECORDING_ID": ID,
    "AUTH_TOKEN": ID,
}


def test_everything_optional_has_the_reference_s_default() -> None:
    settings = read_settings(BASE)
    assert (settings.width_px, settings.height_px) == (1920, 1080)
    assert (settings.video_rate_kbps, settings.audio_rate_kbps) == (1500, 64)
    assert (settings.frame_rate, settings.video_preset) == (30, "fast")
    assert settings.data_dir == Path("/data")


@pytest.mark.parametrize("empty", ["", "0"])
def test_empty_and_zero_mean_the_default(empty: str) -> None:
    names = ("WIDTH", "HEIGHT", "VIDEO_RATE", "AUDIO_RATE", "FRAME_RATE")
    assert read_settings({**BASE, **dict.fromkeys(names, empty)}) == read_settings(BASE)


@pytest.mark.parametrize(
    ("variable", "name", "low", "high"),
    [
        ("WIDTH", "Width", 1280, 3840),
        ("HEIGHT", "Height", 720, 2160),
        ("VIDEO_RATE", "VideoRate", 500, 10000),
        ("AUDIO_RATE", "AudioRate", 32, 320),
        ("FRAME_RATE", "FrameRate", 10, 60),
    ],
)
def test_numbers_have_their_range(variable: str, name: str, low: int, high: int) -> None:
    for inside in (low, high):
        read_settings({**BASE, variable: str(inside)})
    for outside in (low - 1, high + 1, -1):
        with pytest.raises(SettingsError, match=f"^{name} value is not valid$"):
            read_settings({**BASE, variable: str(outside)})
    with pytest.raises(SettingsError, match=f"^failed to parse {name}: {variable}='x'"):
        read_settings({**BASE, variable: "x"})


def test_presets_and_format_are_the_known_ones() -> None:
    for preset in PRESETS:
        assert read_settings({**BASE, "VIDEO_PRESET": preset}).video_preset == preset
    with pytest.raises(SettingsError, match=r"^VideoPreset value is not valid$"):
        read_settings({**BASE, "VIDEO_PRESET": "slow"})
    with pytest.raises(SettingsError, match=r"^OutputFormat value is not valid$"):
        read_settings({**BASE, "OUTPUT_FORMAT": "mkv"})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        pytest.param(
            {"SITE_URL": ""},
            "SiteURL cannot be empty",
            marks=pytest.mark.documents("a-job-without-its-id/2"),
        ),
        pytest.param(
            {"SITE_URL": "https:///"},
            "SiteURL parsing failed: no host",
            marks=pytest.mark.documents("a-site-url-without-a-host"),
        ),
        pytest.param(
            {"SITE_URL_ALLOWED": "perhaps"},
            "SITE_URL_ALLOWED='perhaps': should be true or false",
            marks=pytest.mark.documents("a-setting-that-is-neither-true-nor-false"),
        ),
        pytest.param(
            {"COPIES_URL": "ftp://store"},
            "COPIES_URL: the address of copies should be file:///DIRECTORY or s3://BUCKET[/PREFIX]",
            marks=pytest.mark.documents("an-address-of-copies-that-no-job-can-use"),
        ),
        pytest.param(
            {"SITE_URL": "ftp://h"},
            'SiteURL parsing failed: invalid scheme "ftp"',
            marks=pytest.mark.documents("a-site-url-of-another-scheme"),
        ),
        pytest.param(
            {"SITE_URL": "http://h/x"},
            'SiteURL parsing failed: invalid path "/x"',
            marks=pytest.mark.documents("a-site-url-with-a-sub-path"),
        ),
        ({"CALL_ID": ""}, "CallID cannot be empty"),
        pytest.param(
            {"CALL_ID": "x"},
            "CallID parsing failed",
            marks=pytest.mark.documents("an-id-of-another-form"),
        ),
        ({"POST_ID": "x"}, "PostID parsing failed"),
        pytest.param(
            {"RECORDING_ID": ""},
            "RecordingID cannot be empty",
            marks=pytest.mark.documents("a-job-without-its-id"),
        ),
        ({"RECORDING_ID": ID.upper()}, "RecordingID parsing failed"),
        ({"AUTH_TOKEN": "x"}, "AuthToken parsing failed"),
        pytest.param(
            {"WIDTH": "wide"},
            "failed to parse Width: WIDTH='wide'",
            marks=pytest.mark.documents("a-number-that-is-none"),
        ),
        pytest.param(
            {"FRAME_RATE": "1000"},
            "FrameRate value is not valid",
            marks=pytest.mark.documents("a-number-out-of-its-range"),
        ),
    ],
)
def test_settings_are_checked_with_the_reference_s_texts(
    change: dict[str, str], text: str, documented
) -> None:
    with pytest.raises(SettingsError) as refused:
        read_settings({**BASE, **change})
    assert str(refused.value) == text
    documented.marked(str(refused.value))


@pytest.mark.documents("a-job-without-its-id/3")
def test_nothing_at_all_is_an_empty_config(documented) -> None:
    with pytest.raises(SettingsError) as refused:
        read_settings({})
    documented("a-job-without-its-id/3", str(refused.value))


def test_one_trailing_slash_of_the_site_is_removed() -> None:
    assert read_settings({**BASE, "SITE_URL": "https://h/"}).site_url == "https://h"
    with pytest.raises(SettingsError):
        read_settings({**BASE, "SITE_URL": "https://h//"})


def test_odd_sides_become_even_with_a_warning() -> None:
    settings = read_settings({**BASE, "WIDTH": "1281", "HEIGHT": "721"})
    assert (settings.width_px, settings.height_px) == (1280, 720)
    assert settings.warnings == (
        "WIDTH = 1281 should be even; 1280 is used",
        "HEIGHT = 721 should be even; 720 is used",
    )


def test_what_is_kept_for_salvage_holds_no_token_and_comes_back_equal(tmp_path: Path) -> None:
    settings = read_settings({**BASE, "DATA_DIR": str(tmp_path), "TLS_CA_CERT_FILE": "/ca.pem"})
    document = settings.to_document()
    assert "auth_token" not in document
    back = RecorderSettings.from_document(document, auth_token=ID, directory=settings.directory)
    assert back == settings
    assert ID not in repr(settings).replace(f"'{ID}'", "", 3), "the token is not in the repr"
