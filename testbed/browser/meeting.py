"""An SFU and the stand-in, and browsers in their one call: what the tests and the soak run on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from testbed.browser.chromium import Chromium
from testbed.browser.tab import Tab, TabError
from testbed.ports import HOST, Ports
from testbed.processes import Family, StartFailed
from testbed.stack_settings import StackSettings, sfu_environment

_READY_TIMEOUT_S: Final = 20.0
_POLL_S: Final = 0.05
_GRACE_S: Final = 5.0
_SFU_NAME: Final = "sfu.test"
RESOLVE_INTERVAL_S: Final = 1.0
"""How often the stand-in asks for the SFUs' name here; the plugin's ten seconds would make tests slow."""


class Guest:
    """A tab in the call. The methods are those of `window.call` in the page (testbed/web/main.js)."""

    def __init__(self, tab: Tab, name: str) -> None:
        self.tab = tab
        self.name = name

    async def join(self) -> None:
        """Raises TabError when media does not flow within 15 s."""
        await self.tab.run("(name) => call.join(name)", self.name)

    async def do(self, action: str, *arguments: Any) -> Any:
        """Any action, such as `unmute` with a source."""
        return await self.tab.run(
            "(action, given) => call[action](...given)", action, list(arguments)
        )

    async def state(self) -> dict[str, Any]:
        """What the plugin has told it."""
        state: dict[str, Any] = await self.tab.run("() => call.state()")
        return state

    async def session_id(self) -> str:
        return str((await self.state())["sessionId"])

    async def summary(self) -> dict[str, Any]:
        """The numbers of its connection."""
        summary: dict[str, Any] = await self.tab.run("() => call.summary()")
        return summary

    async def incoming(self, session_id: str, type_: str) -> dict[str, Any] | None:
        """The numbers of one received track; None without it."""
        tracks = (await self.summary())["incoming"]
        found = (t for t in tracks if (t["sessionId"], t["type"]) == (session_id, type_))
        return next(found, None)

    async def until_incoming(
        self, session_id: str, type_: str, condition: str, *, timeout_s: float = 20.0
    ) -> dict[str, Any]:
        """Wait until a received track is there and `condition`, JavaScript about `t`, is true of it."""
        script = f"""async (session, type) => {{
            const {{ incoming }} = await call.summary();
            return incoming.find((t) => t.sessionId === session && t.type === type && ({condition}));
        }}"""
        track: dict[str, Any] = await self.tab.until(script, session_id, type_, timeout_s=timeout_s)
        return track

    async def until_gone(self, session_id: str, type_: str) -> None:
        """Wait until a track is not received any more."""
        await self.tab.until(
            """async (session, type) => !(await call.summary()).incoming.some(
                (t) => t.sessionId === session && t.type === type)""",
            session_id,
            type_,
        )

    async def listen(self, session_id: str, type_: str, *, for_s: float = 1.1) -> dict[str, float]:
        """The strongest frequency (`hz`) and its `level` in what is heard of somebody."""
        heard: dict[str, float] = await self.do("listen", session_id, type_, for_s * 1000)
        return heard

    async def until_colour(self, session_id: str, type_: str, colour: tuple[int, int, int]) -> None:
        """Wait until the middle of a picture has a colour, give or take what a codec does.

        Raises:
            TabError: it never had; with what was received instead.
        """
        try:
            await self._until_colour(session_id, type_, colour)
        except TabError as error:
            track = await self.incoming(session_id, type_)
            raise TabError(f"{self.name} of a {type_}: {error}; received {track}") from None

    async def _until_colour(
        self, session_id: str, type_: str, colour: tuple[int, int, int]
    ) -> None:
        await self.tab.until(
            """(session, type, wanted) => {
                const seen = call.colour(session, type);
                return seen && seen.every((part, index) => Math.abs(part - wanted[index]) < 40);
            }""",
            session_id,
            type_,
            list(colour),
        )


@dataclass(slots=True)
class Meeting:
    """Where it takes place. Made by `started_meeting`."""

    settings: StackSettings
    world: dict[str, Any]
    """What the stand-in wrote about itself: ids and tokens."""
    hosts_file: Path
    sfus: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    """By address."""

    @property
    def url(self) -> str:
        """The stand-in's."""
        return self.settings.site_url

    def name_sfus(self, addresses: Sequence[str]) -> None:
        """What the SFUs' name resolves to from now on; the stand-in asks each second."""
        fresh = self.hosts_file.with_suffix(".new")
        fresh.write_text("".join(f"{address} {_SFU_NAME}\n" for address in addresses))
        fresh.replace(self.hosts_file)

    async def hosts(self) -> dict[str, dict[str, Any]]:
        """By address: what the stand-in knows of the SFUs there."""
        return {host["address"]: host for host in await self._testbed("GET", "sfus")}

    @property
    def page(self) -> str:
        return f"{self.url}/testbed/call/{self.world['channel_id']}"

    async def guest(self, chromium: Chromium, name: str) -> Guest:
        """A new tab, not joined yet."""
        return Guest(await chromium.open(self.page), name)

    async def configure(self, **switches: bool) -> None:
        """What clients that join from now on are told, such as EnableSimulcast."""
        await self._testbed("POST", "config", json=switches)

    async def call(self) -> dict[str, Any]:
        """Who is in the call."""
        state: dict[str, Any] = await self._testbed("GET", f"calls/{self.world['channel_id']}")
        return state

    async def _testbed(self, method: str, path: str, **options: Any) -> Any:
        async with httpx.AsyncClient(timeout=5, trust_env=False) as http:
            response = await http.request(method, f"{self.url}/testbed/{path}", **options)
            response.raise_for_status()
            return response.json()


@contextlib.asynccontextmanager
async def started_meeting(
    directory: Path, *, sfu_addresses: Sequence[str] = (HOST,)
) -> AsyncIterator[Meeting]:
    """Start the stand-in and an SFU at each address of loopback, all behind one name; without a job service.

    Raises:
        StartFailed: one of them did not start.
    """
    settings = StackSettings(directory / "work", directory / "logs", directory, Ports.free())
    settings.work_dir.mkdir(parents=True)
    family = Family()
    meeting = Meeting(settings, {}, directory / "hosts")
    meeting.name_sfus(sfu_addresses)
    try:
        for address in sfu_addresses:
            meeting.sfus[address] = await family.start(
                [sys.executable, "-m", "sfu"],
                environment={**os.environ, **_sfu_environment(settings, address)},
                log=settings.log_dir / f"sfu-{address}.log",
            )
        for address in sfu_addresses:
            url = f"http://{address}:{settings.ports.sfu}/version"
            await _answers(url, settings.log_dir / f"sfu-{address}.log")
        arguments = ["--listen", f"{HOST}:{settings.ports.plugin}"]
        arguments += ["--rtcd-url", f"http://{_SFU_NAME}:{settings.ports.sfu}"]
        arguments += ["--rtcd-hosts", str(meeting.hosts_file)]
        arguments += ["--rtcd-resolve-interval-s", f"{RESOLVE_INTERVAL_S:g}"]
        # No job service: nothing listens on the port of the offloader.
        arguments += ["--job-service-url", f"http://{HOST}:{settings.ports.offloader}"]
        arguments += ["--data-dir", str(settings.world_file.parent)]
        await family.start(
            [sys.executable, "-m", "testbed.plugin", *arguments],
            environment={**os.environ},
            log=settings.log_dir / "plugin.log",
        )
        await _answers(f"{meeting.url}/testbed/users", settings.log_dir / "plugin.log")
        meeting.world.update(json.loads(settings.world_file.read_text()))
        yield meeting
    finally:
        await family.take_down(grace_s=_GRACE_S)


def _sfu_environment(settings: StackSettings, address: str) -> dict[str, str]:
    media = str(settings.ports.media)  # UDP and TCP on the same number, as by default
    return {
        **sfu_environment(settings),
        "RTCD_API_HTTP_LISTENADDRESS": f"{address}:{settings.ports.sfu}",
        "RTCD_RTC_ICEADDRESSUDP": address,
        "RTCD_RTC_ICEADDRESSTCP": address,
        "RTCD_RTC_ICEPORTUDP": media,
        "RTCD_RTC_ICEPORTTCP": media,
        "RTCD_STORE_DATASOURCE": str(settings.work_dir / f"sfu-{address}"),
    }


async def _answers(url: str, log: Path) -> None:
    async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READY_TIMEOUT_S):
                while True:
                    with contextlib.suppress(httpx.TransportError):
                        if (await client.get(url)).status_code == httpx.codes.OK:
                            return
                    await asyncio.sleep(_POLL_S)
    raise StartFailed(f"{url} did not answer within {_READY_TIMEOUT_S:g} s; see {log}")
