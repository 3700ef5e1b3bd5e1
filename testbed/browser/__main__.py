"""`python -m testbed.browser`: Chromium tabs in a call for as long as you like, and a report of it."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from testbed.browser.chromium import ChromiumMissing, started_chromium
from testbed.browser.meeting import started_meeting
from testbed.browser.soak import Report, Soak
from testbed.processes import StartFailed


def main() -> int:
    """Entry point; 0 when nothing went wrong in the call, 1 when something did or it did not start."""
    parser = argparse.ArgumentParser(prog="testbed.browser", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--report", type=Path, help="write the report here too, as JSON")
    arguments = parser.parse_args()
    try:
        report = asyncio.run(_soak(arguments.minutes))
    except (ChromiumMissing, StartFailed) as error:
        sys.stderr.write(f"soak: failed to start: {error}\n")
        return 1
    text = json.dumps(report.public(), indent=1)
    print(text)
    if arguments.report is not None:
        arguments.report.write_text(text + "\n", encoding="utf-8")
    return 0 if report.good else 1


async def _soak(minutes: float) -> Report:
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        directory = Path(name)
        async with (
            started_meeting(directory / "meeting") as meeting,
            started_chromium(directory / "chromium") as chromium,
        ):
            return await Soak(meeting, chromium).run(minutes * 60)


if __name__ == "__main__":
    sys.exit(main())
