"""The jobs' folders: what is left in them, also where that cannot be seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from offloader.backends.kubernetes.files import JobFolders
from offloader.backends.kubernetes.options import Reference
from offloader.models import JobType

JOB = Reference("0123456789ab", JobType.RECORDING, "image")


@pytest.fixture
def folders(make_options, tmp_path: Path) -> JobFolders:
    return JobFolders(
        make_options(
            JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMNAME="recordings",
            JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMDIR=str(tmp_path / "claim"),
        )
    )


async def test_a_result_is_a_folder_with_a_description(folders) -> None:
    assert not await folders.left(JOB)
    await folders.make(JOB.job_name)
    assert not await folders.left(JOB)
    result = folders.data(JOB) / "r1"
    result.mkdir()
    (folders.data(JOB) / "file").touch()
    assert not await folders.left(JOB)
    (result / "job.json").touch()
    assert await folders.left(JOB)
    await folders.remove(JOB.job_name)
    assert not await folders.left(JOB)


async def test_a_folder_that_is_a_file_is_no_reason_to_call_it_empty(folders) -> None:
    folders.of(JOB.job_name).mkdir(parents=True)
    folders.data(JOB).touch()
    assert await folders.left(JOB)


async def test_what_the_vendors_images_left_is_never_waited_for(make_options, tmp_path) -> None:
    folders = JobFolders(
        make_options(
            JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMNAME="recordings",
            JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMDIR=str(tmp_path / "claim"),
            JOBS_USEREFERENCEIMAGES="true",
            JOBS_RUNNERIMAGES='{"ours/*": "registry.example.com/ours:v1"}',
        )
    )
    folders.of(JOB.job_name).mkdir(parents=True)
    folders.data(JOB).touch()  # nobody can look into it
    assert not await folders.left(replace(JOB, image="mattermost/calls-recorder:v1"))
    assert await folders.left(replace(JOB, image="registry.example.com/ours:v1"))
    assert await folders.left(replace(JOB, image="")), "whose it was is not known"


async def test_attempts_are_known_by_their_folders_too(folders) -> None:
    for name in ("-salvage-2", "-salvage-10", "-salvage-x", ""):
        folders.of(JOB.job_name + name).mkdir(parents=True)
    folders.of("calls-recorder-job-fedcba987654-salvage-3").mkdir()
    assert sorted(each.salvage for each in await folders.attempts(JOB)) == [2, 10]
