"""Does a long recording stay in time, and its recorder small?

    python -m testbed.recorder_soak --minutes 30 --report soak.json [--quality high]

Records a lively call through the whole product in real time: joins, leaves, shares, reactions, cameras. The
report has the offsets of flashes and beeps, and the recorder's memory, CPU, descriptors, tasks and file size
every few seconds. Exit code 1 when sound and picture part, something grows that should not, or memory is ever
above 150 MB (200 MB at 1080p).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from foundation.logs import configure_logs
from testbed.plugin.job_service import QUALITIES
from testbed.soaks.course import record
from testbed.soaks.figures import Sampler, rss_limit_bytes
from testbed.soaks.lively import lively_course
from testbed.soaks.sync import judge_sync


async def soak(minutes: float, output: Path, *, quality: str = "medium") -> dict[str, Any]:
    """Record and judge; raises what `testbed.soaks.course.record` does."""
    course = lively_course(minutes, quality=quality)
    sampler = Sampler(most_rss_bytes=rss_limit_bytes(course.profile.height))
    every_s = min(10.0, course.end_s / 20)
    recorded = await record(course, output, sampled=sampler.take, sample_every_s=every_s)
    sync = await asyncio.to_thread(judge_sync, recorded)
    complaints = sync.complaints() + sampler.complaints()
    return sync.public() | sampler.public() | {"good": not complaints, "complaints": complaints}


def main() -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="testbed.recorder_soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="whole half minutes count")
    parser.add_argument(
        "--quality", choices=sorted(QUALITIES), default="medium", help="the plugin's profile"
    )
    parser.add_argument("--report", type=Path, help="write the report as JSON to this file")
    parser.add_argument("--output", type=Path, help="keep recording, truth and logs there")
    options = parser.parse_args()
    if options.minutes <= 0:
        parser.error("--minutes should be above 0")
    configure_logs(level="error")
    with tempfile.TemporaryDirectory(prefix="recorder-soak-") as directory:
        output = (options.output or Path(directory)).resolve()
        report = asyncio.run(soak(options.minutes, output, quality=options.quality))
    if options.report is not None:
        options.report.write_text(json.dumps(report, indent=1) + "\n")
    brief = {
        key: value for key, value in report.items() if key not in ("samples", "worst", "shares")
    }
    print(json.dumps(brief, indent=1))
    return 0 if report["good"] else 1


if __name__ == "__main__":
    sys.exit(main())
