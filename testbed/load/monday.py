"""Monday, nine o'clock: hundreds of meetings begin in the same second, while hundreds follow the events.

Asked: every `POST /jobs` is answered within two seconds or, where there is no place, within its wait; none
later than the plugin waits; whoever is refused is told why.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from testbed.load.clients import (
    PLUGIN_PATIENCE_S,
    Answer,
    Listeners,
    has_room,
    post_within,
    register,
)
from testbed.load.engines import running_engine
from testbed.load.figures import cpu_s, peak_rss_bytes
from testbed.load.run import data_source, running_service, sample, told

NO_PLACE: Final = "max concurrent jobs reached"
_SILENT_S: Final = 20.0
"""No more events come when none came for so long: how many a second they are is the machine's affair."""


@dataclass(frozen=True, slots=True)
class Monday:
    """What comes."""

    jobs: int = 200
    within_s: float = 1.0
    listeners: int = 500
    places: int = 150
    wait_s: float = 5.0
    """`jobs.admission_wait_s`."""
    answered_within_s: float = 2.0
    """Asked of a machine that does nothing else."""

    @property
    def admitted(self) -> int:
        return min(self.jobs, self.places)

    def complaints(self, report: Mapping[str, Any]) -> list[str]:
        """What is not as it is asked, one sentence each."""
        found = []
        answers = report["answers"]
        if answers["status"].get("200", 0) != self.admitted:
            found.append(f"{self.admitted} jobs should have got in: {answers['status']}")
        if report["late"]:
            found.append(f"{report['late']} answers took longer than {self.answered_within_s:g} s")
        if report["latest_refusal_s"] > self.wait_s + self.answered_within_s:
            found.append(f"a refusal took {report['latest_refusal_s']} s")
        if report["unanswered"]:
            found.append(f"{report['unanswered']} had no answer within {PLUGIN_PATIENCE_S:g} s")
        unnamed = report["refused"] - sum(
            count for text, count in answers["refusals"].items() if text.endswith(NO_PLACE)
        )
        if unnamed:
            found.append(f"{unnamed} refusals do not say that there is no place")
        if report["streams"] != self.listeners or report["broken_streams"]:
            found.append(f"streams: {report['streams']} opened, {report['broken_streams']} broke")
        if report["events"].get("dropped"):
            found.append(f"{report['events']['dropped']} times events were dropped")
        # Of each job: that it is there, that it is launched, that it runs.
        if report["events"].get("job", 0) < 3 * self.admitted * self.listeners:
            found.append(f"events are missing: {report['events']}")
        return found


async def monday(
    directory: Path, *, engine: str, store: str = "sqlite", wanted: Monday | None = None
) -> dict[str, Any]:
    """The report, with its `complaints`. `engine`: one of `engines.ENGINES`."""
    wanted = wanted or Monday()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(data_source(store))
        environ = {
            "JOBS_MAXCONCURRENTJOBS": str(wanted.places),
            "JOBS_ADMISSIONWAITS": str(wanted.wait_s),
            "JOBS_MINFREEDISK": "0",  # simulated jobs write nothing
            "JOBS_CLIENTLIMITS_QUEUE": "0",  # all meetings are one client's
            "JOBS_CLIENTLIMITS_EVENTSTREAMS": "0",
        }
        if database is not None:
            environ["STORE_DATASOURCE"] = database.url
        jobs = await stack.enter_async_context(
            running_engine(engine, directory, places=wanted.places)
        )
        service = await stack.enter_async_context(
            running_service(
                directory, arguments=jobs.arguments, environ=environ | dict(jobs.environ)
            )
        )
        await register(service.port)
        await has_room(service.port, wanted.places)
        streams = Listeners(service.port)
        stack.push_async_callback(streams.close)
        opened = await streams.open(wanted.listeners)
        answers: list[Answer] = []
        before_s = {name: cpu_s(pid) for name, pid in jobs.pids.items()}
        used = await sample(service, database, _post(service.port, wanted, streams, answers))
        report = {
            "engine": engine,
            "store": store,
            "streams": opened,
            "broken_streams": streams.broken,
            "events": dict(streams.events),
            "answers": told(answers),
            **_judged(answers, wanted),
            "used": used,
            "cpu_s_beside": {
                name: round(cpu_s(pid) - before_s[name], 2) for name, pid in jobs.pids.items()
            },
            "peak_rss_mib": peak_rss_bytes(service.pid) >> 20,
        }
    return report | {"complaints": wanted.complaints(report)}


async def _post(port: int, wanted: Monday, streams: Listeners, answers: list[Answer]) -> None:
    answers += await post_within(port, range(1, wanted.jobs + 1), within_s=wanted.within_s)
    enough = 3 * wanted.admitted * wanted.listeners
    heard, last_s = -1, 0.0
    while (now_heard := streams.events["job"]) < enough:
        now_s = time.monotonic()
        if now_heard != heard:
            heard, last_s = now_heard, now_s
        elif now_s - last_s > _SILENT_S:
            return  # the report says so
        await asyncio.sleep(0.1)


def _judged(answers: Sequence[Answer], wanted: Monday) -> dict[str, Any]:
    refused = [answer for answer in answers if answer.status not in (0, 200)]
    got_in = [answer for answer in answers if answer.status == 200]
    return {
        "late": sum(answer.seconds > wanted.answered_within_s for answer in got_in),
        "latest_s": round(max((answer.seconds for answer in got_in), default=0.0), 3),
        "refused": len(refused),
        "latest_refusal_s": round(max((answer.seconds for answer in refused), default=0.0), 3),
        "unanswered": sum(answer.status == 0 for answer in answers),
        "wanted": {"jobs": wanted.jobs, "places": wanted.places, "wait_s": wanted.wait_s},
    }
