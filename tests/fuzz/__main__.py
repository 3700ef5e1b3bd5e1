"""`python -m tests.fuzz TARGET…`: fuzz for minutes, then look for growth; `make fuzz` does so.

Everything lies in `--work`/TARGET afterwards: `units`, what was found worth keeping; `finds`, inputs that
failed; `log`, what libFuzzer said. Exit status 1 if anything failed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz import target as targets

_HANG_S = 60
"""libFuzzer's own limit, on the clock: to the end of an endless loop `judge` never gets."""
_RSS_LIMIT_MIB = 2048
_REPLAY_S = 30.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "target", nargs="*", help=f"of {', '.join(targets.names())}; all by default"
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--work", type=Path, default=Path(".fuzz"))
    options = parser.parse_args()
    chosen = options.target or targets.names()
    if unknown := set(chosen) - set(targets.names()):
        parser.error(f"no target {', '.join(sorted(unknown))}")
    return max(_one(name, options.minutes, options.work) for name in chosen)


def _one(name: str, minutes: float, work: Path) -> int:
    place = work / name
    units, finds, log = place / "units", place / "finds", place / "log"
    for folder in (units, finds):
        folder.mkdir(parents=True, exist_ok=True)
    target = targets.load(name)
    for data in (*target.seeds(), *targets.corpus(name)):
        (units / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
    before, known = len(list(units.iterdir())), set(finds.iterdir())
    words = place / "tokens"
    words.write_text("".join(f'"{_escaped(token)}"\n' for token in target.tokens), "ascii")
    flags = [
        f"-max_total_time={minutes * 60:.0f}",
        f"-max_len={target.max_bytes}",
        f"-rss_limit_mb={_RSS_LIMIT_MIB}",
        f"-timeout={_HANG_S}",
        f"-artifact_prefix={finds}/",
        f"-dict={words}",
        "-print_final_stats=1",
        "-use_value_profile=1",
    ]
    began_s = time.monotonic()
    status = guided(name, log, [*flags, str(units)])
    figures = _figures(log.read_text("utf-8", "replace"))
    figures |= {
        "target": name,
        "minutes": round((time.monotonic() - began_s) / 60, 2),
        "new_units": len(list(units.iterdir())) - before,
        "finds": len(set(finds.iterdir()) - known),
        "status": status,
    }
    command = [sys.executable, "-m", "tests.fuzz.replay", name, str(units), str(_REPLAY_S)]
    replayed = subprocess.run(command, capture_output=True, text=True, check=False)
    figures["replay"] = json.loads(replayed.stdout or "null")
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()
    if replayed.returncode:
        sys.stderr.write(replayed.stderr)
    return int(status != 0 or replayed.returncode != 0)


def guided(name: str, log: Path, flags: list[str]) -> int:
    """Exit status of libFuzzer."""
    with log.open("wb") as out:
        command = [sys.executable, "-m", "tests.fuzz.guided", name, *flags]
        done = subprocess.run(command, stdout=out, stderr=out, check=False)
    return done.returncode


def _figures(log: str) -> dict[str, int]:
    """What libFuzzer says at its end."""
    found = dict(re.findall(r"^stat::(\w+):\s+(\d+)", log, re.MULTILINE))
    covered = re.findall(r"\bcov: (\d+) ft: (\d+)", log)
    edges, features = covered[-1] if covered else (0, 0)
    return {
        "executions": int(found.get("number_of_executed_units", 0)),
        "per_s": int(found.get("average_exec_per_sec", 0)),
        "edges": int(edges),
        "features": int(features),
        "peak_mib": int(found.get("peak_rss_mb", 0)),
    }


def _escaped(token: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in token)


if __name__ == "__main__":
    sys.exit(main())
