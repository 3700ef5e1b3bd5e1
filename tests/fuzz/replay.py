"""`python -m tests.fuzz.replay TARGET FOLDER SECONDS`: does memory grow with the number of inputs?

Runs the files of a folder over and over, without a fuzzer, whose own memory grows with what it learns. Prints
one line of JSON; exit status 1 if memory has grown.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from pathlib import Path

from tests.fuzz import target as targets

MAX_GROWTH_MIB = 4.0
"""Between a third of the way and the end: caches are full by then, and leaks of some bytes show."""


def rss_mib() -> float:
    """Resident memory now."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    name, folder, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    target = targets.load(name)
    targets.be_quiet()
    inputs = [path.read_bytes() for path in sorted(folder.iterdir())]
    began_s = time.monotonic()
    runs = 0
    warm_mib = 0.0
    while (elapsed_s := time.monotonic() - began_s) < seconds or not warm_mib:
        for data in inputs:
            targets.judge(target, data)
        runs += len(inputs)
        if not warm_mib and elapsed_s > seconds / 3:
            gc.collect()
            warm_mib = rss_mib()
    gc.collect()
    grown_mib = rss_mib() - warm_mib
    line = {"inputs": len(inputs), "runs": runs, "rss_mib": round(warm_mib, 1)}
    sys.stdout.write(json.dumps(line | {"grown_mib": round(grown_mib, 2)}) + "\n")
    sys.exit(grown_mib > MAX_GROWTH_MIB)


if __name__ == "__main__":
    main()
