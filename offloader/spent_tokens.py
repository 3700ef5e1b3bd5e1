"""Tokens that nobody needs any more are erased: those of jobs whose results are posted, or refused for good.

A token that lies about is one that somebody could steal. It is kept while its job runs, while a result of the
same client and site waits to be published, and while the job's own voices are kept, of which one more
transcript may be posted. One that has only just come is left alone: what it came for is not stored yet.
"""

from __future__ import annotations

from typing import Final

from foundation.logs import get_logger
from offloader.models import Job, Publication
from offloader.outbox_steps import entry_of, site_url_of
from offloader.store.base import JobStore, SecretStore, TokenHolder

SETTLES_S: Final = 60.0
"""Far longer than between a token that is given by hand and the wish to publish with it."""

log = get_logger()


async def erase_spent_tokens(*, store: JobStore, secrets: SecretStore) -> None:
    """One round, which may be repeated and left out at will. Raises StoreError."""
    spent: list[TokenHolder] = []
    last = ""
    while holders := await secrets.holders(least_age_s=SETTLES_S, after=last):
        spent += [holder for holder in holders if await _has_ended(store, holder)]
        last = holders[-1].job_id
    if not spent:
        return
    # Asked after the ends were seen: what ended unpublished until now is among them.
    waiting = {_place(job) for job in await _waiting(store)}
    erased = [holder for holder in spent if holder.place not in waiting]
    for holder in erased:  # and none that has come in its place since
        await secrets.forget_secret(holder.job_id, held=holder)
    if erased:
        log.info("tokens.erased", count=len(erased))


async def forget_token_unless_needed(job: Job, *, store: JobStore, secrets: SecretStore) -> None:
    """Of a job that is to be deleted. Other results of its client and site are published with its token if no
    newer one has come; then it goes with a round of `erase_spent_tokens`. Raises StoreError."""
    client, registration, site = _place(job)
    newest = await secrets.newest_secret(client, site, registration=registration)
    if (
        newest is None
        or newest != await secrets.secret(job.id)
        or not await _is_waited_for(job, store)
    ):
        await secrets.forget_secret(job.id)


async def _is_waited_for(job: Job, store: JobStore) -> bool:
    return any(
        _place(other) == _place(job) for other in await _waiting(store) if other.id != job.id
    )


async def _waiting(store: JobStore) -> list[Job]:
    """Jobs with something to be posted by the newest token of their client and site."""
    unpublished = [job for job in await store.unpublished() if _waits(job)]
    return [*unpublished, *await store.retranscribing()]


async def _has_ended(store: JobStore, holder: TokenHolder) -> bool:
    job = await store.get(holder.job_id)
    if job is None or job.deletion_at is not None:
        return True
    kept = _keeps_audio(job) and job.erased_at is None
    return not (job.live or job.retranscribing or kept)


def _keeps_audio(job: Job) -> bool:
    return str(job.spec.input_data.get("keep_audio") or "").lower() in ("1", "t", "true")


def _waits(job: Job) -> bool:
    given_up = entry_of(job).publication is Publication.UNPUBLISHABLE
    return not given_up and job.deletion_at is None


def _place(job: Job) -> tuple[str, str, str]:
    return job.client_id, job.registration, site_url_of(job)
