"""Reads pip's requirements and prints those that Debian 12's Python needs, without their conditions.

    for_debian.py x86_64 < requirements.txt     by a Python that has pip

The machine that fills a wheelhouse may have another Python than the images, or another processor.
"""

from __future__ import annotations

import sys

try:
    from packaging.markers import Marker
except ImportError:  # pip has one of its own
    from pip._vendor.packaging.markers import Marker

DEBIAN_12 = {
    "implementation_name": "cpython",
    "implementation_version": "3.11.2",
    "os_name": "posix",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.11.2",
    "python_version": "3.11",
    "sys_platform": "linux",
}


def wanted(requirements: str, machine: str) -> str:
    """`name==version ; condition \\` and lines of hashes in, the same without condition out."""
    environment = {**DEBIAN_12, "platform_machine": machine, "extra": ""}
    kept = []
    for requirement in requirements.replace("\\\n", "\x00").splitlines():
        head, *hashes = (part.strip() for part in requirement.split("\x00"))
        name, _, marker = (part.strip() for part in head.partition(";"))
        if requirement.startswith("#") or (marker and not Marker(marker).evaluate(environment)):
            continue
        kept.append(" \\\n    ".join([name, *hashes]) + "\n")
    return "".join(kept)


if __name__ == "__main__":
    sys.stdout.write(wanted(sys.stdin.read(), sys.argv[1]))
