"""What a worker's settings make of the stage: whom jobs are told of, what goes into which queue."""

from __future__ import annotations

from pathlib import Path

import pytest

from offloader.backends.base import LaunchRequest
from offloader.backends.stub import StubBackend
from offloader.models import JobType
from offloader.settings import load_settings
from offloader.store.secret_key import Cipher
from offloader.worker.transcribing import TranscribeStage
from offloader.worker.transcribing_messages import TRANSCRIBE_TASK, TrackOffer

CIPHER = Cipher("x" * 40)
JOB = "a-job-of-somebody"
URL = "http://worker.example.com:4546"


class Publisher:
    def __init__(self) -> None:
        self.published: list[tuple[str, str, str, str]] = []

    async def publish(self, job_id: str, sealed: str, *, queue: str, task: str) -> None:
        self.published.append((job_id, sealed, queue, task))


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


@pytest.fixture
def stage(tmp_path: Path, publisher: Publisher):
    """`stage(**environ)`: of a worker with these settings."""

    def make(**environ: str) -> TranscribeStage:
        fixed = {
            "STATE_DIRECTORY": str(tmp_path),
            "JOBS_PROCESS_JOBSDIR": str(tmp_path / "jobs"),
            "WORKER_NAME": "near",
        }
        return TranscribeStage(
            load_settings(tmp_path / "none.toml", {**fixed, **environ}),
            environ={},
            url=URL,
            backend=StubBackend(),
            publisher=publisher,
            cipher=CIPHER,
            tls=None,
        )

    return make


def _request(job_type: JobType, **input_data: str) -> LaunchRequest:
    return LaunchRequest(JOB, job_type, "image", input_data)


async def test_only_transcribing_jobs_are_told_where_to_hand_in_and_only_when_wished(stage) -> None:
    on = stage(JOBS_CELERY_TRANSCRIBESTAGE="true")
    told = on.prepare(_request(JobType.TRANSCRIBING, call_id="c")).added
    assert told["TRANSCRIBE_TASKS_URL"] == f"{URL}/tasks/{JOB}"
    assert on.owner.admits(f"/tasks/{JOB}", told["TRANSCRIBE_TASKS_TOKEN"])
    assert not on.owner.admits("/tasks/another-job-id", told["TRANSCRIBE_TASKS_TOKEN"])
    assert on.prepare(_request(JobType.RECORDING, call_id="c")).added == {}
    assert stage().prepare(_request(JobType.TRANSCRIBING, call_id="c")).added == {}


async def test_tracks_go_to_workers_with_the_label_of_transcriptions(stage, publisher) -> None:
    labelled = stage(JOBS_CELERY_LABELS='{"transcribing": "gpu"}')
    await labelled._offer(JOB, "voice-1")
    ((job_id, sealed, queue, task),) = publisher.published
    assert (job_id, queue, task) == (JOB, "calls.transcribe.gpu", TRANSCRIBE_TASK)
    assert TrackOffer.unsealed(CIPHER, sealed, JOB) == TrackOffer(URL, "voice-1")
    assert TrackOffer.unsealed(CIPHER, sealed, "another-job-id") is None


@pytest.mark.parametrize(
    ("environ", "queues"),
    [
        ({"WORKER_TRANSCRIBESLOTS": "0"}, []),
        ({}, [("calls.transcribe",)]),
        ({"WORKER_LABELS": "gpu"}, [("calls.transcribe", "calls.transcribe.gpu")]),
        ({"WORKER_LABELS": "gpu", "WORKER_ONLYLABELLED": "true"}, [("calls.transcribe.gpu",)]),
    ],
)
async def test_a_worker_takes_tracks_by_its_slots_and_labels(stage, environ, queues) -> None:
    assert [lane.queues for lane in stage(**environ).lanes] == queues
