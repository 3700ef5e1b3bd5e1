"""What a recorded second costs, ours beside the reference's way in one run.

    python -m benchmarks.recorder_cost [--seconds 20] [--only 720p20] [--ours]

For each case one JSON line, and a table at the end. CPU is user + system of all processes of a recording;
what is shared by both ways (SFU, senders) is counted for neither. `rss_mib` is what recorder and decoding
process have resident while they record, added up; `peak_rss_mib` the sum of their peaks, that of the start
included; `once_mib` counts each page that one of both has once, which only root may know; `tree_pss_mb` (MiB)
deals out what several processes have, those of the call too, and has the shim.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks.recorder_cost.cases import CASES, Case
from benchmarks.recorder_cost.content import write_content
from benchmarks.recorder_cost.ours import measure_ours
from benchmarks.recorder_cost.reference import (
    ReferenceMissing,
    check_programs,
    measure_reference,
)
from foundation.groups import unwrapped
from testbed.hosted_call import CallFailed
from testbed.processes import ProcessDied, StartFailed

_WARM_UP_S: Final = 6.0
_FAILURES: Final = (CallFailed, ProcessDied, StartFailed, ReferenceMissing)


def main() -> int:
    """Exit code 1: a case could not be measured, which the last line tells."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recorder_cost")
    parser.add_argument("--seconds", type=float, default=20.0, help="measured of each recording")
    parser.add_argument("--only", default="", help="cases with this in their name")
    parser.add_argument("--ours", action="store_true", help="without the reference")
    parser.add_argument("--keep", type=Path, help="a directory for logs and files")
    options = parser.parse_args()
    cases = [case for case in CASES if options.only in case.name]
    try:
        if not options.ours:
            check_programs()
        with tempfile.TemporaryDirectory(prefix="recorder-cost-") as scratch:
            directory = options.keep or Path(scratch)
            directory.mkdir(parents=True, exist_ok=True)
            with unwrapped(*_FAILURES):
                rows = asyncio.run(_run(cases, directory, options))
    except _FAILURES as error:
        print(f"bench-recorder: {error}", file=sys.stderr)
        return 1
    _print_table(rows)
    return 0


async def _run(
    cases: list[Case], directory: Path, options: argparse.Namespace
) -> list[dict[str, Any]]:
    films: dict[str, Path] = {}
    for name in {case.content for case in cases if case.content is not None}:
        films[name] = directory / f"{name}.webm"
        if not films[name].exists():
            await asyncio.to_thread(write_content, name, films[name])
    rows = []
    for number, case in enumerate(cases):
        film = films[case.content] if case.content is not None else None
        rows.append(await _measure(case, film, directory / str(number), options))
        print(json.dumps(rows[-1]), flush=True)
    return rows


async def _measure(
    case: Case, film: Path | None, directory: Path, options: argparse.Namespace
) -> dict[str, Any]:
    times = {"warm_up_s": _WARM_UP_S, "seconds": options.seconds}
    load = os.getloadavg()[0]
    ours = await measure_ours(case, film, directory / "ours", **times)
    row: dict[str, Any] = {
        "bench": "recorder_cost",
        "case": case.name,
        "preset": case.profile.preset,
        "cpu_s_per_s": round(ours.cost.cpu_s_per_s, 4),
        "target": case.target_cpu,
        "rss_mib": round(ours.cost.rss_mb),
        "peak_rss_mib": round(ours.peak_rss_mb),
        "once_mib": None if ours.cost.once_mb is None else round(ours.cost.once_mb),
        "target_rss_mb": case.target_rss_mb,
        "tree_pss_mb": round(ours.cost.pss_mb),
        "start_to_started_s": round(ours.start_to_started_s, 2),
        "frames_written": ours.figures.get("frames_written"),
        "load": round(load, 1),
    }
    if not options.ours:
        reference = await measure_reference(case, film, directory / "reference", **times)
        row |= {
            "reference_cpu_s_per_s": round(reference.cpu_s_per_s, 3),
            "cpu_ratio": round(reference.cpu_s_per_s / ours.cost.cpu_s_per_s, 1),
            "reference_pss_mb": round(reference.pss_mb),
            "pss_ratio": round(reference.pss_mb / ours.cost.pss_mb, 1),
        }
    return row


def _print_table(rows: list[dict[str, Any]]) -> None:
    print(
        "\n| Case | preset | CPU s per s | target | reference | ratio"
        " | RSS, peaks, once MiB | PSS, ratio | started |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        target = row["target"] if row["target"] is not None else ""
        reference = row.get("reference_cpu_s_per_s", "")
        pss = str(row["tree_pss_mb"])
        pss += f", {row['pss_ratio']} ×" if "pss_ratio" in row else ""
        ratio = f"{row['cpu_ratio']} ×" if "cpu_ratio" in row else ""
        started = f"{row['start_to_started_s']} s"
        cells = [row["case"], row["preset"], f"{row['cpu_s_per_s']:.3f}", target, reference, ratio]
        rss = f"{row['rss_mib']}, {row['peak_rss_mib']}, {row['once_mib']}"
        print("|", " | ".join(str(cell) for cell in [*cells, rss, pss, started]), "|")


if __name__ == "__main__":
    sys.exit(main())
