"""How long after its process was started a job hears the call: interpreter, imports, join, first packet.

The whole product on loopback: SFU, stand-in and offloader as processes, somebody who talks, and the host who
presses record, a few times. Times are from the birth of the job's process by the kernel to lines of its log;
`flowing` is the first packet of a track. One JSON line per job; `--check` makes the limit the exit code.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Final

from callclient.client import CallClient, CallClientConfig
from callclient.events import Joined
from callclient.publish import LocalTrack
from foundation.logs import configure_logs
from testbed.demo.options import BUNDLED_MODEL
from testbed.hosted_call import hosted_call
from testbed.job_watch import JobProcess
from testbed.polling import until
from testbed.stack import Stack

LIMIT_S: Final = 1.5
_SILENCE: Final = bytes([0xF8, 0xFF, 0xFE])
_PATIENCE_S: Final = 30.0
_LINES: Final = ("media.connected", "media.flowing", "started")


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument(
        "--check", action="store_true", help=f"exit code 1 for a median above {LIMIT_S} s"
    )
    arguments = parser.parse_args()
    configure_logs(level="error")
    took = asyncio.run(_measure(arguments.runs))
    well = True
    for name, runs in took.items():
        result = {f"{line}_s": round(median(run[line] for run in runs), 2) for line in _LINES}
        result["flowing_max_s"] = round(max(run["media.flowing"] for run in runs), 2)
        well = well and result["media.flowing_s"] <= LIMIT_S
        print(json.dumps({"job": name, "runs": len(runs)} | result), flush=True)
    return 0 if well or not arguments.check else 1


async def _measure(runs: int) -> dict[str, list[dict[str, float]]]:
    took: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as directory:
        work_dir = Path(directory)
        models_dir = work_dir / "models"
        models_dir.mkdir()
        for size in ("base", "tiny"):
            (models_dir / size).symlink_to(BUNDLED_MODEL)
        async with (
            hosted_call(work_dir, models_dir=models_dir) as call,
            asyncio.TaskGroup() as tasks,
        ):
            host = CallClient(
                CallClientConfig(
                    site_url=call.stack.settings.site_url,
                    auth_token=call.world.users[call.world.host].token,
                    channel_id=call.channel_id,
                )
            )
            tasks.create_task(host.run())
            async for event in host.events():
                if isinstance(event, Joined):
                    break
            voice = await host.publish_voice()
            await host.set_muted(False)
            talking = tasks.create_task(_talk(voice))
            for number in range(1, runs + 1):
                await call.press_record()
                for job in await _of_run(call.stack, number):
                    took.setdefault(job.name, []).append(await _times(job))
                await call.press_stop()
                await call.all_jobs_ended()
            talking.cancel()
            await host.leave()
    return took


async def _talk(voice: LocalTrack) -> None:
    number = 0
    while True:
        voice.send(_SILENCE, rtp_timestamp=number * 960, marker=False)
        number += 1
        await asyncio.sleep(0.02)


async def _of_run(stack: Stack, number: int) -> list[JobProcess]:
    """Recorder and transcriber of this run, once both have a process."""

    async def there() -> list[JobProcess] | None:
        jobs = stack.jobs()[2 * (number - 1) :]
        return jobs if len(jobs) == 2 and all(job.pid is not None for job in jobs) else None

    return await until(there, "both jobs' processes", limit_s=_PATIENCE_S, every_s=0.01)


async def _times(job: JobProcess) -> dict[str, float]:
    """Seconds from the birth of the process to each line."""
    assert job.pid is not None
    born_s = _born_s(job.pid)

    async def told() -> dict[str, float] | None:
        lines = [json.loads(line) for line in job.log.read_text().splitlines() if line[:1] == "{"]
        at = {line["event"]: line["time"] for line in lines if line["event"] in _LINES}
        if len(at) < len(_LINES):
            return None
        return {
            name: datetime.fromisoformat(text).timestamp() - born_s for name, text in at.items()
        }

    return await until(told, f"{', '.join(_LINES)} in {job.log}", limit_s=_PATIENCE_S)


def _born_s(pid: int) -> float:
    """When a process began, epoch seconds to a hundredth (proc(5), field 22 of stat)."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    uptime_s = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - uptime_s + ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main())
