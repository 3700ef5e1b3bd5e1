"""Tokens that nobody needs any more are erased: those of jobs whose results are posted, or refused for good.

A token that lies about is one that somebody could steal. It is kept while its job runs, while a result of the
same client and site waits to be published, and while the job's own voices are kept, of which one more
transcript may be posted. One that has only just come is left alone: what it came for is not stored yet.
"""

from __future__ import annotations

from typing import Final

from foundation.logs import get_logger
from offloader.models import Job, Publication
from offloader.outbox import entry_of, site_url_of
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
    waiting = {_place(job) for job in await store.unpublished() if _waits(job)}
    waiting |= {_place(job) for job in await store.retranscribing()}
    erased = [holder for holder in spent if holder.place not in waiting]
    for holder in erased:  # and none that has come in its place since
        await secrets.forget_secret(holder.job_id, held=holder)
    if erased:
        log.info("tokens.erased", count=len(erased))


async def _has_ended(store: JobStore, holder: TokenHolder) -> bool:
    job = await store.get(holder.job_id)
    if job is None:
        return True
    kept = _keeps_audio(job) and job.erased_at is None
    return not (job.live or job.retranscribing or kept)


def _keeps_audio(job: Job) -> bool:
    return str(job.spec.input_data.get("keep_audio") or "").lower() in ("1", "t", "true")


def _waits(job: Job) -> bool:
    return entry_of(job).publication is not Publication.UNPUBLISHABLE


def _place(job: Job) -> tuple[str, str, str]:
    return job.client_id, job.registration, site_url_of(job)
