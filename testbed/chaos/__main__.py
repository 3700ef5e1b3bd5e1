"""Entry point: see testbed.chaos. Exit code 1 when anything was lost, 2 for wrong arguments."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from foundation.logs import configure_logs
from testbed.chaos import scenarios
from testbed.chaos.report import as_document, as_table
from testbed.chaos.run import Options, run
from testbed.chaos.schedule import STAGES
from testbed.chaos.victim import Story


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m testbed.chaos")
    known = sorted({stage for stages in STAGES.values() for stage in stages})
    parser.add_argument("--job", choices=("recorder", "transcriber"), default="recorder")
    parser.add_argument("--kills", type=int, default=50, help="by SIGKILL, evenly over the stages")
    parser.add_argument("--terms", type=int, default=6, help="by SIGTERM")
    parser.add_argument(
        "--stages", nargs="*", choices=known, default=(), help="default: all of the job's"
    )
    parser.add_argument("--quiet", action="store_true", help="nobody speaks or shows anything")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parallel", type=int, default=3, help="jobs in the call at a time")
    names = sorted({name for played in scenarios.NAMES.values() for name in played})
    parser.add_argument(
        "--scenarios", nargs="*", choices=names, default=None, help="default: all of the job's"
    )
    parser.add_argument("--down-s", type=float, default=8.0, help="how long Mattermost is away")
    parser.add_argument("--report", type=Path, help="where to write everything, as JSON")
    parser.add_argument("--keep", type=Path, help="directory for logs and truth, kept afterwards")
    given = parser.parse_args(arguments)
    configure_logs(level="error")
    played = scenarios.possible(given.job)
    if given.scenarios is not None:
        if strange := set(given.scenarios) - set(scenarios.NAMES[given.job]):
            parser.error(f"--scenarios {' '.join(sorted(strange))}: not for a {given.job}")
        played = tuple(name for name in scenarios.NAMES[given.job] if name in given.scenarios)
    if strange := set(given.stages) - set(STAGES[given.job]):
        parser.error(f"--stages {' '.join(sorted(strange))}: not of a {given.job}")
    options = Options(
        job=given.job,
        kills=given.kills,
        terms=given.terms,
        seed=given.seed,
        parallel=given.parallel,
        scenarios=played,
        down_s=given.down_s,
        only_stages=tuple(stage for stage in STAGES[given.job] if stage in given.stages),
        quiet=given.quiet,
    )
    directory = given.keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        outcome = asyncio.run(run(options, directory.resolve(), _tell))
    finally:
        if given.keep is None:
            shutil.rmtree(directory, ignore_errors=True)
    if given.report is not None:
        given.report.write_text(json.dumps(as_document(outcome), indent=1) + "\n")
    print(as_table(outcome))
    print(f"\n{len(outcome.stories)} kills in {outcome.duration_s:.0f} s, seed {options.seed}")
    for text in outcome.complaints:
        print(f"LOST: {text}")
    for number, stages in outcome.short.items():
        if stages:
            print(f"TOO FEW by {number.name}: {', '.join(stages)}")
    return 1 if outcome.complaints or any(outcome.short.values()) else 0


def _tell(story: Story) -> None:
    wish = story.wish
    figures = {key: value for key, value in story.figures.items() if key != "zero_ns"}
    print(
        f"{wish.signal.name if wish else '':8} wanted {wish.stage if wish else '':8} "
        f"hit {story.hit or '-':8} exit {story.exit_code} salvage {story.salvage_code} {figures} "
        f"{'; '.join(story.complaints)}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
