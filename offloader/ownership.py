"""Whose a job is, and who is shown it."""

from __future__ import annotations

from clientauth.service import Identity
from offloader.models import UNMARKED, Job


def owns(client: Identity, job: Job) -> bool:
    """The admin has all jobs, a client those of its own registration: not those of whoever had its name."""
    if client.admin:
        return True
    own = (client.registration, UNMARKED)
    return job.client_id == client.client_id and job.registration in own


def sees(client: Identity, job: Job) -> bool:
    """Whether `client` is shown it in answers, lists and events: its owner until it is to be deleted, the
    admin as long as anything of it is left."""
    return owns(client, job) and (client.admin or job.deletion_at is None)
