"""`started` must arrive, `failed` must never make things worse (calls-plugin.md 5.6)."""

from __future__ import annotations

import pytest

from callclient.plugin_api import ApiError
from jobs.settings import JobSettings
from jobs.status import StatusReporter

pytestmark = pytest.mark.looptime
SETTINGS = JobSettings("http://h", "c", "p", "j", "t")


class Server:
    def __init__(self, *errors: ApiError) -> None:
        self.errors = list(errors)
        self.reports: list[tuple[str, ...]] = []

    async def report_status(
        self, channel_id: str, job_id: str, *, job_type: str, status: str, error: str = ""
    ) -> None:
        self.reports.append((channel_id, job_id, job_type, status, error))
        if self.errors:
            raise self.errors.pop(0)


def reporter(server: Server) -> StatusReporter:
    return StatusReporter(server, SETTINGS, "recording")


async def test_reports_name_call_job_type_and_reason() -> None:
    server = Server()
    await reporter(server).started()
    await reporter(server).failed("call is full")
    assert server.reports == [
        ("c", "j", "recording", "started", ""),
        ("c", "j", "recording", "failed", "call is full (job j)"),
    ]


async def test_two_retries_and_then_the_start_has_failed() -> None:
    server = Server(*[ApiError("x", status=503, retryable=True)] * 9)
    with pytest.raises(ApiError):
        await reporter(server).started()
    assert len(server.reports) == 3


async def test_a_refusal_because_the_call_is_over_is_not_repeated_and_no_crash() -> None:
    server = Server(ApiError("no call ongoing", status=400, retryable=False))
    await reporter(server).failed("x")
    assert len(server.reports) == 1
