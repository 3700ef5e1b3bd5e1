"""The reference's way, stripped: a desktop, a browser and ffmpeg that films it, from Debian's packages.

Stripped in its favour: no call, no WebRTC, no web application of Mattermost, no sound server; the page
plays a local file. ffmpeg gets the options that the plugin's profiles lead to.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.recorder_cost.cases import Case
from benchmarks.recorder_cost.measure import Cost, measure
from benchmarks.recorder_cost.page import write_page
from testbed.polling import until
from testbed.processes import Family

PROGRAMS: Final = {"Xvfb": "xvfb", "chromium": "chromium", "ffmpeg": "ffmpeg"}
"""Program and Debian package."""
_START_LIMIT_S: Final = 10.0
_FRAMES_BEFORE_S: Final = 3.0
"""From the browser's start to the first page drawn, before ffmpeg starts."""


class ReferenceMissing(Exception):
    """A program is not there, or does not start."""


def check_programs() -> None:
    """Raises ReferenceMissing naming the package."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if missing:
        raise ReferenceMissing(f"apt-get install {' '.join(missing)}")


async def measure_reference(
    case: Case, film: Path | None, directory: Path, *, warm_up_s: float, seconds: float
) -> Cost:
    """Record `case` that way. Raises ReferenceMissing."""
    page = await asyncio.to_thread(write_page, directory, film)
    display = _free_display()
    profile = case.profile
    size = f"{profile.width}x{profile.height}"
    family = Family()
    environment = {**os.environ, "DISPLAY": display, "HOME": str(directory)}

    async def start(command: Sequence[str]) -> int:
        log = directory / f"{command[0]}.log"
        return (await family.start(command, environment=environment, log=log)).pid

    try:
        roots = [
            await start(
                ["Xvfb", display, "-screen", "0", f"{size}x24", "-dpi", "96", "-nolisten", "tcp"]
            )
        ]
        await _until_there(display)
        roots.append(await start(_chromium(page, directory, case)))
        await asyncio.sleep(_FRAMES_BEFORE_S)
        roots.append(await start(_ffmpeg(display, directory / "out.mp4", case)))
        await asyncio.sleep(warm_up_s)
        return await measure(roots, seconds)
    finally:
        await family.take_down(grace_s=5)


def _chromium(page: Path, directory: Path, case: Case) -> list[str]:
    profile = case.profile
    return [
        "chromium",
        "--kiosk",
        "--no-sandbox",
        "--no-first-run",
        "--no-default-browser-check",
        "--disable-extensions",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--autoplay-policy=no-user-gesture-required",
        "--window-position=0,0",
        f"--window-size={profile.width},{profile.height}",
        f"--user-data-dir={directory / 'profile'}",
        page.as_uri(),
    ]


def _ffmpeg(display: str, out: Path, case: Case) -> list[str]:
    profile = case.profile
    sound = ["-re", "-f", "lavfi", "-i", "anullsrc=r=48000:cl=stereo"]
    pictures = ["-thread_queue_size", "4096", "-r", str(profile.frame_rate), "-f", "x11grab"]
    pictures += ["-draw_mouse", "0", "-video_size", f"{profile.width}x{profile.height}"]
    video = ["-c:v", "libx264", "-preset", profile.preset, "-vf", "format=yuv420p"]
    video += ["-b:v", f"{profile.video_rate}k"]
    audio = ["-c:a", "aac", "-b:a", f"{profile.audio_rate}k"]
    return [
        *("ffmpeg", "-nostdin", "-loglevel", "warning", "-y", *sound, *pictures, "-i", display),
        *(*video, *audio, "-movflags", "+faststart", str(out)),
    ]


def _free_display() -> str:
    taken = {path.name for path in Path("/tmp/.X11-unix").glob("X*")}
    return next(f":{n}" for n in range(70, 200) if f"X{n}" not in taken)


async def _until_there(display: str) -> None:
    socket = Path(f"/tmp/.X11-unix/X{display[1:]}")

    async def there() -> bool:
        return os.access(socket, os.F_OK)

    await until(there, f"Xvfb {display}", limit_s=_START_LIMIT_S, failure=ReferenceMissing)
