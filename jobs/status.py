"""Tells the plugin how a job is doing (calls-plugin.md 5.6)."""

from __future__ import annotations

import asyncio
from typing import Literal

from callclient.plugin_api import ApiError, PluginApi
from foundation.logs import get_logger
from foundation.retry import Backoff, retry
from jobs.plain_words import for_people
from jobs.settings import JobSettings

JobType = Literal["recording", "transcribing"]
_BACKOFF = Backoff(attempts=3, first_wait_s=2.0, growth=1.0)
_TIMEOUT_S = 30.0


class StatusReporter:
    """`started` once connected, `failed` when it cannot be."""

    def __init__(self, api: PluginApi, settings: JobSettings, job_type: JobType) -> None:
        self._api = api
        self._settings = settings
        self._job_type = job_type
        self._log = get_logger(component="status")

    async def started(self) -> None:
        """Report the start; after this the job can never join again (trap 11). Raises ApiError."""
        await self._report("started", "")
        self._log.info("status.started")

    async def failed(self, text: str) -> None:
        """Report why the job could not start, in plain words. Never raises: the call may be over already
        (trap 32)."""
        plain = for_people(text, job_id=self._settings.job_id)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._report("failed", plain)
        except (ApiError, TimeoutError) as error:
            self._log.warning("status.not_reported", reason=str(error))

    async def _report(self, status: str, error: str) -> None:
        await retry(
            lambda: self._api.report_status(
                self._settings.call_id,
                self._settings.job_id,
                job_type=self._job_type,
                status=status,
                error=error,
            ),
            backoff=_BACKOFF,
            retryable=lambda e: isinstance(e, ApiError) and e.retryable,
        )
