"""Schemathesis attacks the service by its own OpenAPI document.

No 5xx but the documented one of job creation, no undocumented status, every answer of the documented form.
Half of the requests are about jobs that exist. `/events` never ends and is left to its own tests.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi import checks

from offloader.api.openapi import openapi_document

RECORDER = "mattermost/calls-recorder:v0.8.13"
SCHEMA = schemathesis.openapi.from_dict(openapi_document()).exclude(path="/events")
CHECKS = (
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
)
BOUNDED = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class Target:
    """The service in a thread of its own."""

    def __init__(self, serve: Any, directory: Any) -> None:
        self._serve = serve
        self._directory = directory
        self._ready = threading.Event()
        self._end: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.url = ""
        self.headers: dict[str, str] = {}
        self.jobs: list[str] = []
        self.turns = count()

    def __enter__(self) -> Target:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._end is not None
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(20)

    async def _run(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with self._serve(self._directory, JOBS_MAXCONCURRENTJOBS="5") as served:
            self.url = str(served.http.base_url).rstrip("/")
            self.headers = served.basic("plugin")
            job = {"type": "recording", "runner": RECORDER, "max_duration_sec": 60}
            for end in ({}, {"unpublished": True}, None):
                response = await served.http.post("/jobs", json=job, headers=self.headers)
                self.jobs.append(response.json()["id"])
                await served.check()
                if end is not None:
                    served.backend.exit(self.jobs[-1], 1, **end)
                    await served.check()
            served.backend.files = {"r1/part.mp4": b"x"}
            self._ready.set()
            await self._end.wait()


@pytest.fixture(scope="module")
def target(serve: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("clientauth.failures.FREE", 1 << 31)  # its wrong keys are meant well
        with Target(serve, tmp_path_factory.mktemp("attacked")) as started:
            yield started


@SCHEMA.parametrize()
@BOUNDED
def test_nothing_but_what_is_documented_is_answered(case: Any, target: Target) -> None:
    turn = next(target.turns)
    if "job_id" in case.path_parameters and turn % 2:
        case.path_parameters["job_id"] = target.jobs[turn // 2 % len(target.jobs)]
        if "name" in case.path_parameters:
            case.path_parameters["name"] = "r1/part.mp4"
    if case.path.endswith("/logs") and isinstance(case.query, dict):
        case.query.pop("follow", None)  # of the job that lives it would not end
    headers = target.headers if turn % 5 else {}
    response = case.call(base_url=target.url, headers=headers, timeout=10)
    case.validate_response(response, checks=list(CHECKS))
    creation = (case.method.upper(), case.path) == ("POST", "/jobs")
    assert response.status_code < 500 or creation, response.text
