"""`python -m testbed.load`: how the job service does with many jobs; one JSON line per case.

Exit code 1: something is not as `monday` asks for it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import tempfile
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from testbed.load.engines import ENGINES
from testbed.load.monday import Monday, monday
from testbed.load.run import many_jobs


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m testbed.load", description=__doc__)
    parser.add_argument("--store", choices=["sqlite", "postgresql"], action="append")
    cases = parser.add_subparsers(dest="case", required=True)
    many = cases.add_parser("many", help="simulated jobs that run, and some that come")
    many.add_argument("--live", type=int, action="append", help="jobs that run already")
    many.add_argument("--ended", type=int, default=0, help="jobs that ended today")
    many.add_argument("--seconds", type=float, default=10.0, help="of each half of a case")
    many.add_argument("--rate", type=float, default=20.0, help="jobs that come, per second")
    many.add_argument("--listeners", type=int, default=0, help="open event streams")
    nine = cases.add_parser("monday", help="200 jobs within a second, 500 event streams open")
    nine.add_argument("--engine", choices=ENGINES, action="append")
    nine.add_argument("--jobs", type=int, default=200)
    nine.add_argument("--places", type=int, default=150)
    nine.add_argument("--listeners", type=int, default=500)
    nine.add_argument("--wait-s", type=float, default=5.0)
    options = parser.parse_args()
    complaints = 0
    for store in options.store or ["sqlite", "postgresql"]:
        if options.case == "many":
            for live in options.live or [10_000]:
                case = partial(
                    many_jobs,
                    store=store,
                    live=live,
                    seconds=options.seconds,
                    rate=options.rate,
                    listeners=options.listeners,
                    ended=options.ended,
                )
                _run(case)
            continue
        for engine in options.engine or ENGINES:
            report = _run(partial(monday, engine=engine, store=store, wanted=_wanted(options)))
            complaints += len(report["complaints"])
    return 1 if complaints else 0


def _wanted(options: argparse.Namespace) -> Monday:
    return Monday(
        jobs=options.jobs,
        places=options.places,
        listeners=options.listeners,
        wait_s=options.wait_s,
    )


def _run(case: Callable[[Path], Coroutine[Any, Any, dict[str, Any]]]) -> dict[str, Any]:
    load = round(os.getloadavg()[0], 2)
    with (
        tempfile.TemporaryDirectory(prefix="load-", ignore_cleanup_errors=True) as name,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        report = runner.run(case(Path(name)))
    surroundings = {"cpus": os.cpu_count(), "load": load, "python": platform.python_version()}
    print(json.dumps(report | surroundings), flush=True)
    return report


if __name__ == "__main__":
    raise SystemExit(main())
