"""Known holes in the packages of the lock file, by pip-audit; what could not be looked up is said.

Usage: known_holes.py PIP-AUDIT REQUIREMENTS. With AUDIT=required a package that was not looked up fails it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

_TIMEOUT_S = 300


def judge(report: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Holes, one sentence each; and by name why packages were not looked up. `report`: pip-audit's JSON."""
    holes, unknown = [], {}
    for package in report["dependencies"]:
        if "skip_reason" in package:
            unknown[package["name"]] = package["skip_reason"]
        for hole in package.get("vulns", ()):
            mended = ", ".join(hole["fix_versions"]) or "no release yet"
            holes.append(
                f"{package['name']} {package['version']}: {hole['id']}, mended in {mended}"
            )
    return holes, unknown


def main(pip_audit: str, requirements: str) -> int:
    """Returns the exit code."""
    command = [pip_audit, "--requirement", requirements, "--require-hashes", "--disable-pip"]
    ran = subprocess.run(
        [*command, "--format", "json", "--progress-spinner", "off"],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    required = os.environ.get("AUDIT") == "required"
    if not ran.stdout.strip():
        _say(f"NOT RUN: {ran.stderr.strip()[-300:]}")
        return int(required)
    holes, unknown = judge(json.loads(ran.stdout))
    for hole in holes:
        _say(hole)
    if unknown:
        reason = next(iter(unknown.values()))
        _say(f"NOT RUN for {len(unknown)} packages of the lock file, such as: {reason}")
    return int(bool(holes) or (required and bool(unknown)))


def _say(text: str) -> None:
    sys.stderr.write(f"pip-audit: {text}\n")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
