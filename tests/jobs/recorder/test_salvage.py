"""A dead recorder's directory is finished by another process, without a second post."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from callclient.plugin_api import ApiError
from jobs import job_directory
from jobs.copies.job_copy import JobCopy
from jobs.publication import PublishState
from jobs.recorder import __main__ as command
from jobs.recorder import salvage
from jobs.recorder.mp4 import AUDIO_BLOCK, Mp4Writer
from jobs.recorder.settings import PART_NAME
from testbed.analysis.mp4_structure import read_mp4

ID = "abcdefghijklmnopqrstuvwxy"
FROZEN = Path(__file__).parents[2] / "fixtures/job_directories/v1/q1w2e3r4t5z6/data"


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
    monkeypatch.setattr(salvage, "site_api", lambda _: api)
    monkeypatch.setattr("jobs.copies.rescue.QUIET_S", 0.0)
    monkeypatch.setattr("jobs.copies.fence.TAKE_OVER_S", 0.0)
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


def test_what_a_recorder_of_the_release_before_left_is_published(
    api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = shutil.copytree(FROZEN / (ID + "r"), tmp_path / (ID + "r"))
    assert "format" not in json.loads((directory / "job.json").read_text()), "as it wrote them"
    monkeypatch.setattr(salvage, "site_api", lambda _: api)
    monkeypatch.setenv("AUTH_TOKEN", ID + "n")
    assert command.main(["salvage", str(directory)]) == 0
    ((name, content),) = api.uploads
    assert name == "Call_Town_Square.mp4"
    (tmp_path / "x.mp4").write_bytes(content)
    assert read_mp4(tmp_path / "x.mp4").video_duration_s > 2.0
    assert len(api.posts) == 1
    assert not directory.exists()


@pytest.mark.documents("a-job-of-a-later-release")
def test_what_a_later_release_left_is_named_and_stays_as_it_is(
    dead_job: Path, api, capsys: pytest.CaptureFixture[str], documented
) -> None:
    path = dead_job / "job.json"
    document = json.loads(path.read_text())
    assert document["format"] == job_directory.FORMAT
    path.write_text(json.dumps({**document, "format": job_directory.FORMAT + 1}))
    before = {file.name: file.read_bytes() for file in dead_job.iterdir()}
    assert command.main(["salvage", str(dead_job)]) == 2
    documented("a-job-of-a-later-release", capsys.readouterr().err)
    assert {file.name: file.read_bytes() for file in dead_job.iterdir()} == before
    assert api.uploads == []


def test_a_job_whose_host_is_lost_is_finished_on_another_from_its_copy(
    dead_job: Path, api, settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = f"file://{tmp_path}/claim"
    asyncio.run(JobCopy(replace(settings, copies_url=copies)).before_derived())
    shutil.rmtree(dead_job)
    monkeypatch.setenv("COPIES_URL", copies)
    monkeypatch.setenv("DATA_DIR", f"{tmp_path}/other-host")
    api.publish_error = ApiError("not now", status=403, retryable=False)
    assert command.main(["rescue", settings.job_id]) == 1
    assert command.main(["rescue", settings.job_id]) == 2, "its files are there by now"
    api.publish_error = None
    assert command.main(["salvage", f"{tmp_path}/other-host/{settings.job_id}"]) == 0
    ((name, content),) = api.uploads
    assert name == "Call_X.mp4"
    (tmp_path / "x.mp4").write_bytes(content)
    assert read_mp4(tmp_path / "x.mp4").video_duration_s > 2.0
    assert len(api.posts) == 1
    assert not any((tmp_path / "other-host").iterdir())
    claim = {path.name for path in (tmp_path / "claim").iterdir()}
    assert claim == {f"{settings.job_id}.publisher"}, "the lost job may live, and shall not post"


def test_a_job_whose_copy_still_grows_is_left_alone(
    dead_job: Path, api, settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = f"file://{tmp_path}/claim"
    copy = replace(settings, copies_url=copies)
    asyncio.run(JobCopy(copy).before_derived())
    monkeypatch.setenv("COPIES_URL", copies)
    monkeypatch.setenv("DATA_DIR", f"{tmp_path}/other-host")

    async def meanwhile(_seconds: float) -> None:
        (dead_job / "job.log").write_text("a line")
        await JobCopy(copy).before_derived()

    with monkeypatch.context() as patch:
        patch.setattr("jobs.copies.rescue.asyncio.sleep", meanwhile)
        assert command.main(["rescue", settings.job_id]) == 5
    assert not (tmp_path / "other-host").exists()
    assert command.main(["rescue", settings.job_id]) == 0, "it has died since"
    assert len(api.posts) == 1


def test_a_post_that_a_lost_host_may_have_made_is_looked_for_before_another_is_made(
    dead_job: Path, api, settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = f"file://{tmp_path}/claim"
    monkeypatch.setenv("COPIES_URL", copies)
    monkeypatch.setattr("jobs.publication._SETTLE_S", 0.0)

    async def lost_while_posting(_channel_id: str, **post: object) -> None:
        api.posts.append(post)
        shutil.rmtree(dead_job)
        raise ApiError("no answer", status=None, retryable=False)

    asyncio.run(JobCopy(replace(settings, copies_url=copies)).before_derived())
    with monkeypatch.context() as first_host:
        first_host.setattr(api, "publish_recording", lost_while_posting)
        assert command.main(["salvage", str(dead_job)]) == 1
    monkeypatch.setenv("DATA_DIR", f"{tmp_path}/other-host")
    assert command.main(["rescue", settings.job_id]) == 0
    assert (len(api.uploads), len(api.posts)) == (1, 1)


@pytest.mark.parametrize(
    ("job_id", "code"), [("../etc", 2), ("x" * 26, 6)], ids=["no ID", "no copy"]
)
def test_what_cannot_be_rescued_is_said(
    job_id: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("COPIES_URL", f"file://{tmp_path}/claim")
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    assert command.main(["rescue", job_id]) == code
    assert job_id in capsys.readouterr().err


def test_a_file_that_was_uploaded_is_not_uploaded_again(dead_job: Path, api) -> None:
    PublishState(dead_job).uploaded("recording.mp4", "file7")
    assert command.main(["salvage", str(dead_job)]) == 0
    assert api.uploads == []
    assert api.posts[0]["file_ids"] == ["file7"]


def test_a_lost_answer_is_never_answered_with_a_second_post(dead_job: Path, api) -> None:
    api.publish_error = ApiError("no answer", status=None, retryable=True)
    api.post_of_file_error = ApiError("forbidden", status=403, retryable=False)
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


@pytest.mark.parametrize(
    "left", [None, 0, 88, 900], ids=["no file", "empty", "header", "a bit more"]
)
def test_a_job_killed_before_its_first_moment_leaves_nothing_to_try_again(
    dead_job: Path, api, left: int | None
) -> None:
    part = dead_job / PART_NAME
    died = part.read_bytes()
    part.unlink()
    if left is not None:
        part.write_bytes(died[:left])
    assert command.main(["salvage", str(dead_job)]) == 0
    assert not dead_job.exists()
    assert api.posts == []


def test_what_cannot_be_read_is_a_failure_that_keeps_the_directory(dead_job: Path) -> None:
    part = dead_job / PART_NAME
    content = bytearray(part.read_bytes())
    at = content.index(b"moov") + 4
    content[at : at + 400] = bytes(400)
    part.write_bytes(content)
    assert command.main(["salvage", str(dead_job)]) == 1
    assert dead_job.exists()


def test_two_processes_never_finish_the_same_job(dead_job: Path, api) -> None:
    with job_directory.held(dead_job):
        assert command.main(["salvage", str(dead_job)]) == 1
    assert api.posts == []
    assert command.main(["salvage", str(dead_job)]) == 0
    assert len(api.posts) == 1


@pytest.mark.parametrize("variables", [{}, {"JOB_CRASHED": "1"}], ids=["later", "at once"])
def test_only_right_after_a_crash_the_people_in_the_call_are_told(
    dead_job: Path, api, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert command.main(["salvage", str(dead_job)]) == 0
    text = "the recorder ended unexpectedly; what was recorded until then is posted"
    text += f" (job {dead_job.name})"
    assert api.statuses == [("failed", text)] * len(variables)
    assert len(api.posts) == 1


def test_who_lost_their_recorder_is_promised_no_post_of_nothing(
    dead_job: Path, api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOB_CRASHED", "1")
    (dead_job / PART_NAME).write_bytes(b"")
    assert command.main(["salvage", str(dead_job)]) == 0
    ((status, text),) = api.statuses
    assert (status, api.posts) == ("failed", [])
    assert text.startswith("the recorder ended unexpectedly before anything was recorded (job ")


@pytest.mark.parametrize("made", [True, False], ids=["after the post", "before it"])
def test_a_kill_while_posting_costs_neither_the_post_nor_a_second_one(
    dead_job: Path, api, monkeypatch: pytest.MonkeyPatch, made: bool
) -> None:
    monkeypatch.setattr("jobs.publication._SETTLE_S", 0.0)
    api.publish_error = ApiError("GET: refused with HTTP 401", status=401, retryable=False)
    assert command.main(["salvage", str(dead_job)]) == 1
    api.publish_error = None
    record = json.loads((dead_job / "publication.json").read_text())
    (dead_job / "publication.json").write_text(json.dumps(record | {"posting": True}))
    if made:
        api.posts.append({"file_ids": [record["uploaded"]["recording.mp4"]]})
    assert command.main(["salvage", str(dead_job)]) == 0
    assert len(api.posts) == len(api.uploads) == 1
    assert not dead_job.exists()


@pytest.mark.documents("a-directory-that-is-no-jobs/4")
def test_the_token_has_to_come_from_the_environment(
    dead_job: Path, monkeypatch: pytest.MonkeyPatch, capsys, documented
) -> None:
    monkeypatch.delenv("AUTH_TOKEN")
    assert command.main(["salvage", str(dead_job)]) == 2
    documented("a-directory-that-is-no-jobs/4", capsys.readouterr().err)


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
