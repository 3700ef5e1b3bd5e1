"""The port behind which the outbox finds what an attempt to publish needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class TokenSource(Protocol):
    """Where the tokens of earlier jobs are kept, encrypted."""

    async def newest_secret(
        self, client_id: str, site_url: str, *, registration: str = ""
    ) -> str | None:
        """The newest token that this registration of the client sent for that site, or None."""

    async def variables(self, job_id: str) -> Mapping[str, str]:
        """What names the job's speech service, its keys included; often nothing."""


class NoTokens:
    """A `TokenSource` of a service that keeps none: results wait until they are published by hand."""

    async def newest_secret(
        self, client_id: str, site_url: str, *, registration: str = ""
    ) -> str | None:
        return None

    async def variables(self, job_id: str) -> Mapping[str, str]:
        return {}
