"""A headless Chromium process with a profile of its own, devices that are made up, and a log."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from testbed.browser.devtools import DevTools, connect_devtools
from testbed.browser.tab import Tab

PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
_START_TIMEOUT_S: Final = 30.0
_END_TIMEOUT_S: Final = 5.0
_POLL_S: Final = 0.05
_DECODER_ERROR: Final = re.compile(
    rb"Failed to decode|decoder error|DecoderError|decode failed", re.I
)

_ARGUMENTS: Final = (
    "--headless",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-sandbox",  # tests run as root, in containers
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
    "--enable-logging=stderr",
    # Nobody looks at the tabs; they must work as if.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    # Devices and permissions without a person.
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--auto-accept-this-tab-capture",
    # Loopback is all there is: real addresses instead of mDNS names, and loopback among them.
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--allow-loopback-in-peer-connection",
)


class ChromiumMissing(Exception):
    """There is none on this machine, or it does not start; the message says which."""


@dataclass(frozen=True, slots=True)
class FakeDevices:
    """What the made-up microphone plays, and what getDisplayMedia shares."""

    sound: Path | None = None
    """A WAV file, played again and again; without it a beep each second."""
    display: str = "browser"
    """`browser` or `monitor`."""

    def arguments(self) -> list[str]:
        """For the command line."""
        devices = [f"--use-fake-device-for-media-stream=display-media-type={self.display}"]
        if self.sound is not None:
            devices.append(f"--use-file-for-fake-audio-capture={self.sound}")
        return devices


def find_chromium() -> str:
    """The program. Raises ChromiumMissing."""
    found = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    if found is None:
        raise ChromiumMissing(f"none of {', '.join(PROGRAMS)} is on PATH")
    return found


class Chromium:
    """A running browser. Made by `started_chromium`."""

    def __init__(self, devtools: DevTools, log: Path) -> None:
        self._devtools = devtools
        self._log = log

    async def version(self) -> str:
        """Such as `Chrome/156.0.8078.79`."""
        return str((await self._devtools.send("Browser.getVersion"))["product"])

    async def open(self, url: str) -> Tab:
        """A new window with one tab."""
        made = await self._devtools.send("Target.createTarget", url="about:blank", newWindow=True)
        target = made["targetId"]
        attached = await self._devtools.send("Target.attachToTarget", targetId=target, flatten=True)
        tab = Tab(self._devtools, target, attached["sessionId"])
        await tab.prepare()
        await tab.load(url)
        return tab

    def decoder_errors(self) -> list[str]:
        """Lines of its log in which a decoder complains."""
        lines = self._log.read_bytes().splitlines()
        return [line.decode(errors="replace") for line in lines if _DECODER_ERROR.search(line)]


@contextlib.asynccontextmanager
async def started_chromium(
    directory: Path, *, devices: FakeDevices | None = None, more: Sequence[str] = ()
) -> AsyncIterator[Chromium]:
    """Start one in `directory`, which gets its profile and its log; it is gone afterwards.

    Raises:
        ChromiumMissing: there is no program, or it does not start.
    """
    profile = directory / "profile"
    log = directory / "chromium.log"
    profile.mkdir(parents=True)
    command = [find_chromium(), *_ARGUMENTS, *(devices or FakeDevices()).arguments(), *more]
    command += [f"--user-data-dir={profile}", "--remote-debugging-port=0", "about:blank"]
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        url = await _endpoint(process, profile / "DevToolsActivePort", log)
        async with connect_devtools(url) as devtools:
            yield Chromium(devtools, log)
    finally:
        await _end(process)


async def _endpoint(process: asyncio.subprocess.Process, file: Path, log: Path) -> str:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_START_TIMEOUT_S):
            while process.returncode is None:
                with contextlib.suppress(OSError, ValueError):
                    text = await asyncio.to_thread(file.read_text)
                    port, path = text.split("\n")
                    return f"ws://127.0.0.1:{port}{path}"
                await asyncio.sleep(_POLL_S)
    raise ChromiumMissing(f"chromium does not start; see {log}")


async def _end(process: asyncio.subprocess.Process) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _END_TIMEOUT_S)
    # Its helpers share its process group and may outlive it for a moment.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
