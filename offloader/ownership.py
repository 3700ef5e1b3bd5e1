"""Whose a job is."""

from __future__ import annotations

from clientauth.service import Identity
from offloader.models import UNMARKED, Job


def owns(client: Identity, job: Job) -> bool:
    """The admin has all jobs, a client those of its own registration: not those of whoever had its name."""
    if client.admin:
        return True
    own = (client.registration, UNMARKED)
    return job.client_id == client.client_id and job.registration in own
