"""Do sound and picture stay together in a long recording, whatever network and clocks do?

    python -m testbed.sync_soak --minutes 10 --report sync.json

Records a call through the whole product, in which 5 % of the SFU's packets are lost, the speakers' clocks run
up to 100 millionths wrong, people mute, and two screens are shared after each other; finds the beeps and
flashes in the file, and holds them against the senders' schedule. Exit code 1 when they are too far from each
other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from foundation.logs import configure_logs
from testbed.soaks.course import record
from testbed.soaks.sync import SyncResult, judge_sync, sync_course


async def soak(minutes: float, output: Path, *, ppm: float, loss: float) -> SyncResult:
    """Record and judge; raises what `testbed.soaks.course.record` does."""
    recorded = await record(sync_course(minutes, ppm=ppm, loss=loss), output)
    return await asyncio.to_thread(judge_sync, recorded)


def main() -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="testbed.sync_soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="at least 1")
    parser.add_argument("--loss", type=float, default=0.05, help="share of packets")
    parser.add_argument("--ppm", type=float, default=100.0, help="how wrong the clocks run")
    parser.add_argument("--report", type=Path, help="write the report as JSON to this file")
    parser.add_argument("--output", type=Path, help="keep recording, truth and logs there")
    options = parser.parse_args()
    if options.minutes < 1 or not 0 <= options.loss < 1:
        parser.error("--minutes should be at least 1, --loss from 0 to 1")
    configure_logs(level="error")
    with tempfile.TemporaryDirectory(prefix="sync-soak-") as directory:
        output = (options.output or Path(directory)).resolve()
        result = asyncio.run(soak(options.minutes, output, ppm=options.ppm, loss=options.loss))
    text = json.dumps(result.public(), indent=1)
    if options.report is not None:
        options.report.write_text(text + "\n")
    print(text)
    return 1 if result.complaints() else 0


if __name__ == "__main__":
    sys.exit(main())
