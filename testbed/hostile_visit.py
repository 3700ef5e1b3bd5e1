"""A hostile client beside a call that is recorded: everything it can think of, while the bots talk."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import httpx

from testbed.canary_visit import PLUGIN, SPARE
from testbed.hostile import CLIENT, KEY, Hostile, Probe
from testbed.hostile_floods import (
    flood,
    listen_too_often,
    send_half_a_head,
    send_too_much,
    slow_senders,
)
from testbed.hostile_requests import (
    OwnJob,
    Victim,
    leave_the_directory,
    reach_inner_addresses,
    replay,
    start_caged_job,
    touch_others,
)
from testbed.hostile_traps import Traps
from testbed.polling import until
from testbed.ports import HOST
from testbed.stack import Stack

_STREAMS: Final = 2
_LIMIT_S: Final = 60.0


class HostileVisit:
    """See `Visitor`. What came of it is in `hostile`, `probe`, `own` and `log`."""

    names: Mapping[str, tuple[str, str]] = {}
    plugin_environment: Mapping[str, str] = {}

    def __init__(self, traps: Traps, *, site_url: str | None = None) -> None:
        """`site_url`: the admin has named this site and that of the traps: loopback is refused, too."""
        self._traps = traps
        self._loopback_refused = site_url is not None
        self.offloader_environment: dict[str, str] = {
            "API_SECURITY_ALLOWEDCLIENTS": f"{PLUGIN},{SPARE},{CLIENT}",
            "JOBS_CLIENTLIMITS_SLOTS": "1",
            "JOBS_CLIENTLIMITS_QUEUE": "2",
            "JOBS_CLIENTLIMITS_EVENTSTREAMS": str(_STREAMS),
            "JOBS_ADMISSIONWAITS": "1",
            "JOBS_MAXCONCURRENTJOBS": "4",
        }
        if site_url is not None:
            self.offloader_environment["JOBS_ALLOWEDSITEURLS"] = f"{site_url},{traps.site.url}"
        self.hostile = Hostile(HOST, 0)
        self.probe = Probe(self.hostile)
        self.own: OwnJob | None = None
        self.details: dict[str, Any] = {}
        self.log = b""

    async def before(self, stack: Stack) -> None:
        """Register, as anybody may."""
        self.hostile.jobs = stack.strangers
        self.hostile.port = stack.settings.ports.offloader
        wish = {"clientID": CLIENT, "authKey": KEY}
        answer = await self.hostile.ask("POST", "/register", document=wish, key=None)
        assert answer.status == 201, answer

    async def during(self, stack: Stack) -> None:
        """Attack by everything at once."""
        victim = await self._victim(stack)
        site_url = self._traps.site.url
        own = self.own = await start_caged_job(self.hostile, self._traps, site_url=site_url)
        hostile = self.hostile
        async with asyncio.TaskGroup() as watch:
            watch.create_task(self.probe.run(), name="probe")
            try:
                async with slow_senders(hostile), asyncio.TaskGroup() as tasks:
                    tasks.create_task(
                        reach_inner_addresses(
                            hostile, self._traps, loopback_refused=self._loopback_refused
                        )
                    )
                    tasks.create_task(leave_the_directory(hostile, own, site_url=site_url))
                    tasks.create_task(touch_others(hostile, victim))
                    tasks.create_task(replay(hostile, victim, own, site_url=site_url))
                    tasks.create_task(flood(hostile, victim_id=victim.client_id, site_url=site_url))
                    tasks.create_task(listen_too_often(hostile, limit=_STREAMS))
                    tasks.create_task(send_half_a_head(hostile))
                    tasks.create_task(send_too_much(hostile, site_url=site_url))
            finally:
                self._traps.released.set()
                self.probe.end()

    async def after(self, stack: Stack) -> None:
        """See what became of the one job that it got."""
        assert self.own is not None
        path = f"/jobs/{self.own.job_id}"

        async def ended() -> dict[str, Any] | None:
            details: dict[str, Any] = (await self.hostile.ask("GET", f"{path}?details=1")).json()
            return details if details["state"] == "finished" else None

        await self.hostile.ask("POST", f"{path}/stop")
        self.details = await until(ended, "the end of the caged job", limit_s=_LIMIT_S)
        self.log = (await self.hostile.ask("GET", f"{path}/logs")).body

    @staticmethod
    async def _victim(stack: Stack) -> Victim:
        transport = httpx.AsyncHTTPTransport(uds=str(stack.settings.admin_socket))
        async with httpx.AsyncClient(base_url="http://offloader", transport=transport) as admin:
            jobs = (await admin.get("/jobs")).raise_for_status().json()["jobs"]
        (recording,) = [job for job in jobs if job["type"] == "recording"]
        inputs = recording["input_data"]
        ids = [job["id"] for job in jobs]
        return Victim(PLUGIN, ids, inputs["call_id"], inputs["recording_id"])
