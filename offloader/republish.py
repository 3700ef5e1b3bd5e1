"""The port behind which results that their jobs could not publish are tried again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from offloader.errors import NothingToPublish
from offloader.models import Job
from offloader.outbox import Outbox
from offloader.outbox_steps import site_url_of
from offloader.speech_keys import speech_variables
from offloader.store.base import SecretStore


class Republisher(Protocol):
    """Tries again, in the background. Safe to ask repeatedly."""

    async def republish(self, job: Job, *, auth_token: str | None) -> Job:
        """Make the job's result due now, with `auth_token` (kept like a job's own), or with the newest one
        that the job's client sent for that site. Returns the job as it is then.

        Raises:
            NothingToPublish: everything of the job is published, or it is still running.
        """

    async def secrets_came(self, job: Job, input_data: Mapping[str, Any]) -> None:
        """A job was launched with these. Keep its token and the keys of its speech service; tokens die with
        every restart of the plugin, so try at once what its client has waiting for that site."""


class OutboxRepublisher:
    """The outbox, with a token that somebody gives by hand."""

    def __init__(self, outbox: Outbox, secrets: SecretStore) -> None:
        self._outbox = outbox
        self._secrets = secrets

    async def republish(self, job: Job, *, auth_token: str | None) -> Job:
        if job.live or not job.unpublished:
            raise NothingToPublish(job.id)
        if auth_token is not None:
            await self._keep(job, auth_token)
        return await self._outbox.republish(job)

    async def secrets_came(self, job: Job, input_data: Mapping[str, Any]) -> None:
        if keys := speech_variables(job.spec.type, input_data):
            await self._secrets.put_variables(job.id, keys)
        auth_token = input_data.get("auth_token")
        if not isinstance(auth_token, str) or not auth_token:
            return
        await self._keep(job, auth_token)
        await self._outbox.heal(
            client_id=job.client_id, site_url=site_url_of(job), registration=job.registration
        )

    async def _keep(self, job: Job, auth_token: str) -> None:
        await self._secrets.put_secret(
            job.id, job.client_id, site_url_of(job), auth_token, registration=job.registration
        )


class NoRepublisher:
    """For a service without an outbox."""

    async def republish(self, job: Job, *, auth_token: str | None) -> Job:
        raise NothingToPublish(job.id)

    async def secrets_came(self, job: Job, input_data: Mapping[str, Any]) -> None:
        return None
