"""Step `workers`: who answers over the broker, whether their doors can be reached, and their clocks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

from offloader.backends.remote.wire import WorkerCard
from offloader.doctor.finding import Finding, failure, note, ok, skipped, warning
from offloader.doctor.step import Context, Step
from offloader.errors import BackendError, StoreError
from offloader.models import JobType
from offloader.settings import default_state_dir
from offloader.store.key_place import shared_cipher
from offloader.store.sqlite_file import file_of, key_file_of
from offloader.version import BUILD_VERSION

_WHAT: Final = "workers"
_CLOCK_S: Final = 2.0
"""A `Date` header has whole seconds; leases are 12 s."""
_DOOR_S: Final = 3.0


async def look(context: Context) -> Sequence[Finding]:
    """Skipped where there are none."""
    jobs = context.settings.jobs
    if not context.brokered:
        return [skipped("workers_not_used", _WHAT, f"jobs.api_type = {jobs.api_type}")]
    from offloader.backends.celery.broker import Broker

    try:
        cipher = shared_cipher(context.environ, key_file=_key_file(context))
    except StoreError as error:
        return [skipped("workers_no_key", _WHAT, str(error))]
    broker = Broker(jobs.celery, cipher=cipher, ca_cert_file=jobs.network.ca_cert_file)
    try:
        cards = await broker.cards()
    except BackendError as error:
        return [skipped("workers_unknown", _WHAT, f"{error}: see `broker`")]
    finally:
        await broker.aclose()
    if not cards:
        return [_nobody()]
    doors = await asyncio.gather(*(_door(card, context) for card in cards))
    found = [finding for pair in doors for finding in pair]
    return [*found, *_takers(cards, context)]


def _key_file(context: Context) -> Path:
    """The service's own (offloader/store/stores.py); never made here."""
    source = context.settings.data_source
    if "://" in source:
        return default_state_dir(context.environ) / "offloader.key"
    return key_file_of(file_of(source))


def _nobody() -> Finding:
    return failure(
        "workers_none",
        _WHAT,
        "nobody answers",
        cause="no job can start: no worker is on this broker, or each has another key or queue_prefix",
        fix=(
            "systemctl start calls-offloader-worker   # on each host of workers",
            "the same OFFLOADER_SECRET_KEY, jobs.celery.broker_url and queue_prefix on all of them",
        ),
    )


async def _door(card: WorkerCard, context: Context) -> list[Finding]:
    """The card of one worker, its door, and its clock by the door's `Date`."""
    import httpx

    what = f"worker {card.name}"
    data = {"url": card.url, "version": card.version, "slots": card.slots}
    found = [_card(what, card)]
    ca_file = context.settings.jobs.network.ca_cert_file
    try:
        import ssl

        trusted = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        async with httpx.AsyncClient(verify=trusted, timeout=_DOOR_S, trust_env=False) as client:
            began_s = time.time()
            answer = await client.get(f"{card.url}/healthz")
            now_s = (began_s + time.time()) / 2
    except (httpx.HTTPError, OSError) as error:
        reason = str(error) or type(error).__name__
        return [
            *found,
            failure(
                "workers_door_shut",
                what,
                f"{card.url}: {reason}",
                cause="its jobs cannot be watched, stopped or republished from here",
                fix=(
                    "worker.url: an address of that host which the service reaches",
                    "open port 4546 of that host for the service",
                ),
                data=data,
            ),
        ]
    return [*found, *_clock(what, answer.headers.get("Date", ""), now_s)]


def _card(what: str, card: WorkerCard) -> Finding:
    shown = f"{card.slots} places, {card.version}, {card.url}"
    data = {"url": card.url, "version": card.version, "slots": card.slots}
    if card.usable:
        return failure(
            "workers_cannot",
            what,
            card.usable,
            cause="it answers, but no job could be launched there",
            fix=("sudo offloader doctor   # on that host",),
            data=data,
        )
    if card.draining:
        return note("workers_draining", what, shown, cause="it takes no new jobs", data=data)
    if card.version != BUILD_VERSION:
        return note(
            "workers_other_version",
            what,
            shown,
            cause=f"this service is {BUILD_VERSION}: upgrade the service first, then worker by worker",
            data=data,
        )
    return ok("workers_live", what, shown, data=data)


def _clock(what: str, date: str, now_s: float) -> list[Finding]:
    try:
        off_s = parsedate_to_datetime(date).timestamp() + 0.5 - now_s
    except (ValueError, TypeError):
        return []
    if abs(off_s) <= _CLOCK_S:
        return [ok("workers_clock", f"clock of {what}", "as here", data={"off_s": round(off_s)})]
    return [
        warning(
            "workers_clock_off",
            f"clock of {what}",
            f"{off_s:+.0f} s from this one",
            cause="tokens, deadlines and logs of the two do not fit together",
            fix=("sudo timedatectl set-ntp true   # on that host",),
            data={"off_s": round(off_s)},
        )
    ]


def _takers(cards: Sequence[WorkerCard], context: Context) -> list[Finding]:
    """A label that no worker has keeps a whole type of jobs from starting."""
    found: list[Finding] = []
    labels = context.settings.jobs.celery.labels
    for job_type in JobType:
        label = labels.get(job_type, "")
        fit = [c for c in cards if (label in c.labels if label else not c.only_labelled)]
        if not fit:
            found.append(
                failure(
                    "workers_no_taker",
                    f"{job_type.value} jobs",
                    f"no worker with the label {label}"
                    if label
                    else "only workers that take labels alone",
                    cause="jobs of this type do not start",
                    fix=(
                        f'worker.labels = ["{label}"]' if label else "worker.only_labelled = false",
                    ),
                )
            )
    return found


WORKERS: Final = Step("workers", "Workers", look, timeout_s=25)
