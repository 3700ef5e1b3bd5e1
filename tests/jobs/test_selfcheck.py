"""`python -m jobs.selfcheck` tells of codecs, fonts, models and speed as JSON, and why it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.selfcheck import main

MODEL = Path(__file__).parents[2] / "models" / "whisper-words-ct2"


def told(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert main(arguments) == code
    return json.loads(capsys.readouterr().out)


def test_facts_name_codecs_fonts_and_the_speech_engine(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "facts")
    assert found["codecs"] == dict.fromkeys(
        ("libx264", "aac", "libopus", "libvpx", "libvpx-vp9", "h264", "libdav1d"), True
    )
    assert all({"package", "effect"} == set(part) for part in found["fonts_missing"])
    assert "int8" in found["speech"]["cpu_types"]


def test_the_encoder_is_measured_by_frames(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "encode", "0.2")
    assert found["frames"] > 0
    assert found["bytes"] > 0
    assert found["cpu_s_per_recorded_s"] == pytest.approx(20 * found["cpu_s_per_frame"])


def test_a_model_is_measured_whatever_it_hears(capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "model", str(MODEL), "1")
    assert found["model"] == "whisper-words-ct2"
    assert found["threads"] == 1
    assert found["window_cpu_s"] > found["caption_cpu_s"] > 0
    assert found["cpu_s_per_speech_s"] == pytest.approx(found["window_cpu_s"] / 30, abs=1e-4)


def test_models_are_listed_with_their_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "model.bin").write_bytes(b"12345")
    (tmp_path / "notes").mkdir()
    assert told(capsys, "models", str(tmp_path)) == {"models": [{"name": "base", "bytes": 5}]}


def test_what_cannot_be_done_is_told_as_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "EngineLoadError" in told(capsys, "model", str(tmp_path), "1", code=1)["error"]


def test_anything_else_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nothing"]) == 2
    assert "python -m jobs.selfcheck facts" in capsys.readouterr().err
