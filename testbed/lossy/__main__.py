"""The whole matrix of loss and jitter.

    python -m testbed.lossy --report lossy.json

Exit code 0: every cell is as it should be; 1: some are not, and their complaints are printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import uvloop

from foundation.logs import configure_logs
from testbed.lossy import iptables
from testbed.lossy.run import BUDGETS, Cell, CellReport, run_cells

LOSSES: Final = (0.0, 0.01, 0.05, 0.1, 0.2)
JITTERS_MS: Final = (0, 50, 100, 200)


def main() -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m testbed.lossy", description=__doc__)
    parser.add_argument("--seconds", type=float, default=90.0, help="of media, for each loss")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--loss", type=float, nargs="+", default=LOSSES, help="shares, 0 to 1")
    parser.add_argument("--jitter-ms", type=int, nargs="+", default=JITTERS_MS)
    parser.add_argument("--budget", nargs="+", choices=BUDGETS, default=list(BUDGETS))
    parser.add_argument("--iptables", action="store_true", help="let the kernel lose the packets")
    parser.add_argument("--report", type=Path, help="write all figures as JSON to this file")
    given = parser.parse_args()
    configure_logs(level="error")
    reports = uvloop.run(_run(given))
    print(table(reports))
    if given.report is not None:
        document = [asdict(one) | {"complaints": one.complaints()} for one in reports]
        given.report.write_text(json.dumps(document, indent=1))
    failed = [one for one in reports if one.complaints()]
    for one in failed:
        print(f"{one.cell}: {'; '.join(one.complaints())}")
    return 1 if failed else 0


async def _run(given: argparse.Namespace) -> list[CellReport]:
    if given.iptables and not await iptables.usable():
        raise SystemExit("iptables is not there, or we may not use it")
    reports = []
    for loss in given.loss:
        cells = [Cell(loss, jitter, name) for name in given.budget for jitter in given.jitter_ms]
        reports += await run_cells(
            cells, seconds=given.seconds, seed=given.seed, by_iptables=given.iptables
        )
        print(f"{loss:.0%} loss is done", file=sys.stderr, flush=True)
    return reports


def table(reports: Sequence[CellReport]) -> str:
    """For docs/performance.md. Of two voices the worse one."""
    lines = [
        "| Budget | loss | jitter | lost | made up | worst place: start, later | pictures right | "
        "longest until one after a burst |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in sorted(reports, key=lambda r: list(BUDGETS).index(r.cell.budget)):
        voices, screen = list(one.voices.values()), one.screen
        start_ms = max((v.worst_start_ms for v in voices), default=0.0)
        later_ms = max((v.worst_later_ms for v in voices), default=0.0)
        blind_s = max(screen.blind_s, default=0.0) if screen is not None else 0.0
        lines.append(
            f"| `{one.cell.budget}` | {one.cell.loss:.0%} | {one.cell.jitter_ms} ms "
            f"| {sum(v.lost_s for v in voices):.2f} s | {sum(v.concealed_s for v in voices):.2f} s "
            f"| {start_ms:.0f} ms, {later_ms:.0f} ms "
            + (
                f"| {screen.right} of {screen.sent} | {blind_s:.2f} s |"
                if screen is not None
                else "| | |"
            )
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
