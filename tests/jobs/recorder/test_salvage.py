"""A dead recorder's directory is finished by another process, without a second post."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from callclient.plugin_api import ApiError
from jobs import job_directory
from jobs.publication import PublishState
from jobs.recorder import __main__ as command
from jobs.recorder import salvage
from jobs.recorder.mp4 import AUDIO_BLOCK, Mp4Writer
from jobs.recorder.outcome import PART_NAME
from testbed.analysis.mp4_structure import read_mp4

ID = "abcdefghijklmnopqrstuvwxy"


@pytest.fixture
def dead_job(api, settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Killed in mid-call: fragments without an end."""
    job_directory.create(settings, base_name="Call_X")
    part = settings.directory / PART_NAME
    writer = Mp4Writer(part, settings)
    planes = np.full((1080, 1280), 100, np.uint8)
    for number in range(40):
        writer.write_picture(planes, ticks=number * 9000, duration=9000)
        while writer.samples < (number + 1) * 4800:
            writer.write_sound(np.zeros(AUDIO_BLOCK, np.float32))
    died = part.read_bytes()
    writer.close()
    part.write_bytes(died)
    monkeypatch.setattr(salvage, "PluginApi", lambda **_: api)
    monkeypatch.setenv("AUTH_TOKEN", ID + "n")
    return settings.directory


def test_what_was_recorded_is_published_and_the_directory_goes(
    dead_job: Path, api, tmp_path: Path
) -> None:
    assert command.main(["salvage", str(dead_job)]) == 0
    ((name, content),) = api.uploads
    assert name == "Call_X.mp4"
    (tmp_path / "x.mp4").write_bytes(content)
    assert read_mp4(tmp_path / "x.mp4").video_duration_s > 2.0
    assert len(api.posts) == 1
    assert not dead_job.exists()


def test_a_file_that_was_uploaded_is_not_uploaded_again(dead_job: Path, api) -> None:
    PublishState(dead_job).uploaded("recording.mp4", "file7")
    assert command.main(["salvage", str(dead_job)]) == 0
    assert api.uploads == []
    assert api.posts[0]["file_ids"] == ["file7"]


def test_a_lost_answer_is_never_answered_with_a_second_post(dead_job: Path, api) -> None:
    api.publish_error = ApiError("no answer", status=None, retryable=True)
    assert command.main(["salvage", str(dead_job)]) == 0
    api.publish_error = None
    assert command.main(["salvage", str(dead_job)]) == 0
    assert api.posts == []
    assert (dead_job / "recording.mp4").exists(), "an admin may still want it"


def test_a_refusal_keeps_everything_and_says_so(dead_job: Path, api) -> None:
    api.publish_error = ApiError("refused", status=403, retryable=False)
    assert command.main(["salvage", str(dead_job)]) == 1
    assert (dead_job / "recording.mp4").exists()
    api.publish_error = None
    assert command.main(["salvage", str(dead_job)]) == 0
    assert len(api.posts) == 1


def test_a_refusal_for_good_has_its_own_exit_code(dead_job: Path, api) -> None:
    api.publish_error = ApiError("channel is gone", status=400, retryable=False)
    assert command.main(["salvage", str(dead_job)]) == 3
    assert (dead_job / "recording.mp4").exists()


def test_nothing_playable_is_a_failure_that_keeps_the_directory(dead_job: Path) -> None:
    (dead_job / PART_NAME).write_bytes(b"")
    assert command.main(["salvage", str(dead_job)]) == 1
    assert dead_job.exists()


def test_the_token_has_to_come_from_the_environment(
    dead_job: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.delenv("AUTH_TOKEN")
    assert command.main(["salvage", str(dead_job)]) == 2
    assert "AuthToken cannot be empty" in capsys.readouterr().err


def test_a_directory_that_is_no_job_s_is_refused(tmp_path: Path, capsys) -> None:
    assert command.main(["salvage", str(tmp_path)]) == 2
    assert "job.json" in capsys.readouterr().err


def test_wrong_arguments_show_the_usage(capsys) -> None:
    assert command.main(["what"]) == 2
    assert "usage" in capsys.readouterr().err


def test_bad_settings_end_with_1(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("SITE_URL", "ftp://h")
    assert command.main([]) == 1
    assert "invalid scheme" in capsys.readouterr().err
