"""Asks the replica that launches a job whether the job is this worker's, and tells it what became of it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, Final

import httpx

from foundation.logs import get_logger
from foundation.retry import Backoff, retry
from offloader.backends.remote.wire import DoorKey, workload_document
from offloader.models import Workload
from offloader.store.secret_key import Cipher

_BACKOFF: Final = Backoff(attempts=5, first_wait_s=0.25, max_wait_s=2.0)
"""About 4 s beside the requests."""
_CLAIM_S: Final = 8.0
"""In all; meanwhile a place is held for the job."""
_LIMITS: Final = httpx.Timeout(3.0, connect=2.0)
_NOT_OURS: Final = (404, 409, 410)

log = get_logger()


class ServiceUnreachable(Exception):
    """The replica that launches does not answer, or not as it should."""


class Claims:
    """One per worker. `aclose` in the end."""

    def __init__(
        self, *, name: str, url: str, cipher: Cipher, tls: ssl.SSLContext | None = None
    ) -> None:
        """`name`, `url`: of this worker. `tls`: whom to trust; None: as usual."""
        self._whose = {"worker": name, "url": url}
        self._http = httpx.AsyncClient(
            auth=DoorKey(cipher),
            timeout=_LIMITS,
            trust_env=False,  # proxies are for the world outside
            verify=tls if tls is not None else True,
        )

    async def claim(self, claim_url: str, job_id: str) -> bool:
        """Whether the job is this worker's to launch. Asking again gives the same answer.

        Raises:
            ServiceUnreachable: nobody says; whoever launches it has given up by then, or is gone.
        """
        try:
            async with asyncio.timeout(_CLAIM_S):
                status = await self._post(f"{claim_url}/launches/{job_id}/claim", self._whose)
        except TimeoutError as error:
            raise ServiceUnreachable(f"{claim_url}: no answer within {_CLAIM_S:g} s") from error
        return status == httpx.codes.OK

    async def tell(self, claim_url: str, job_id: str, outcome: Workload | str) -> None:
        """What became of the launch: the workload, or why there is none. Nobody has to hear it: the service
        finds the job at this worker's door. Never raises."""
        body: dict[str, Any] = (
            {"error": outcome}
            if isinstance(outcome, str)
            else {"workload": workload_document(outcome)}
        )
        try:
            await self._post(f"{claim_url}/launches/{job_id}/outcome", body)
        except ServiceUnreachable as error:
            log.warning("launch.outcome_not_told", job_id=job_id, reason=str(error))

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def _post(self, url: str, body: Mapping[str, Any]) -> int:
        async def attempt() -> int:
            try:
                answer = await self._http.post(url, json=body)
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                reason = str(error) or type(error).__name__
                raise ServiceUnreachable(f"{url}: {reason}") from error
            if answer.status_code != httpx.codes.OK and answer.status_code not in _NOT_OURS:
                raise ServiceUnreachable(f"{url}: HTTP status {answer.status_code}")
            return answer.status_code

        return await retry(
            attempt,
            backoff=_BACKOFF,
            retryable=lambda error: isinstance(error, ServiceUnreachable),
        )
