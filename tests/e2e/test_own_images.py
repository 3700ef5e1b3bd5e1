"""What our images promise, in containers of a real engine as the docker backend makes them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from offloader.backends.docker.container import plan_container
from offloader.backends.docker.options import DockerOptions, Reference
from offloader.models import JobType
from offloader.settings import load_settings
from testbed.stack_settings import IMAGES, WORKER_IMAGE

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ID = "abcdefghijklmnopqrstuvwxy"
VARIABLES = {
    "SITE_URL": "http://127.0.0.1:1",
    "CALL_ID": ID + "c",
    "POST_ID": ID + "p",
    "RECORDING_ID": ID + "r",
    "TRANSCRIPTION_ID": ID + "r",
    "AUTH_TOKEN": ID + "s",
    "MAX_DURATION_S": "1",
    "STOP_GRACE_S": "1",
}
HANGS = """
import os, time
from jobs import own_deadline
from jobs.harness import run_job
from jobs.settings import read_common

async def job(context):
    print("ready", flush=True)
    time.sleep(60)  # the event loop hangs

own_deadline.LATER_S = 0.1
settings = read_common(os.environ, job_id_variable="RECORDING_ID")
run_job(job, settings, job_type="recording")
"""


@pytest.fixture(params=IMAGES)
def hanging(request: pytest.FixtureRequest, own_images: docker.APIClient) -> Iterator[Any]:
    """A container that a service has started before it went away for ever."""
    job_type = JobType.RECORDING if "recorder" in request.param else JobType.TRANSCRIBING
    reference = Reference(secrets.token_hex(6), job_type, request.param)
    options = DockerOptions.of(load_settings(Path("/nonexistent"), {}).jobs)
    plan = plan_container(reference, own=True, variables=VARIABLES, command=(), options=options)
    told = [f"{name}={text}" for name, text in VARIABLES.items()]
    body = {
        **plan.body,
        "Entrypoint": ["python", "-c", HANGS],
        "Env": [text for text in plan.body["Env"] if not text.startswith("JOB_")] + told,
    }
    own_images.create_container_from_config(body, reference.container)
    own_images.start(reference.container)
    yield reference.container
    own_images.remove_container(reference.container, force=True)
    own_images.remove_volume(reference.volume)


def test_a_job_that_hangs_ends_by_itself_when_no_service_is_there_to_kill_it(
    hanging: str, own_images: docker.APIClient
) -> None:
    assert own_images.wait(hanging, timeout=20)["StatusCode"] == 142
    assert own_images.logs(hanging, stderr=False) == b"ready\n"


def test_a_worker_without_a_key_ends_and_says_how_to_give_it_one(
    own_images: docker.APIClient,
) -> None:
    container = own_images.create_container(WORKER_IMAGE)
    try:
        own_images.start(container)
        assert own_images.wait(container, timeout=20)["StatusCode"] == 1
        last = own_images.logs(container).decode().splitlines()[-1]
    finally:
        own_images.remove_container(container, force=True, v=True)
    assert "OFFLOADER_SECRET_KEY" in last
