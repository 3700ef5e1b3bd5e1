"""The port behind which results that their jobs could not publish are tried again."""

from __future__ import annotations

from typing import Protocol

from offloader.errors import NothingToPublish
from offloader.models import Job
from offloader.outbox import Outbox, site_url_of
from offloader.store.base import SecretStore


class Republisher(Protocol):
    """Tries again, in the background. Safe to ask repeatedly."""

    async def republish(self, job: Job, *, auth_token: str | None) -> Job:
        """Make the job's result due now, with `auth_token` (kept like a job's own), or with the newest one
        that the job's client sent for that site. Returns the job as it is then.

        Raises:
            NothingToPublish: everything of the job is published, or it is still running.
        """

    async def token_came(self, job: Job, *, auth_token: str) -> None:
        """A new job brought a token: keep it, and try at once what its client has waiting for that site."""


class OutboxRepublisher:
    """The outbox, with a token that somebody gives by hand."""

    def __init__(self, outbox: Outbox, secrets: SecretStore) -> None:
        self._outbox = outbox
        self._secrets = secrets

    async def republish(self, job: Job, *, auth_token: str | None) -> Job:
        if job.live or not job.unpublished:
            raise NothingToPublish(job.id)
        if auth_token is not None:
            await self._secrets.put_secret(job.id, job.client_id, site_url_of(job), auth_token)
        return await self._outbox.republish(job)

    async def token_came(self, job: Job, *, auth_token: str) -> None:
        site_url = site_url_of(job)
        await self._secrets.put_secret(job.id, job.client_id, site_url, auth_token)
        await self._outbox.heal(client_id=job.client_id, site_url=site_url)


class NoRepublisher:
    """For a service without an outbox."""

    async def republish(self, job: Job, *, auth_token: str | None) -> Job:
        raise NothingToPublish(job.id)

    async def token_came(self, job: Job, *, auth_token: str) -> None:
        return None
