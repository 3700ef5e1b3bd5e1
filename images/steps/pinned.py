"""Prints one package as a pip requirement with the version and the hashes that uv.lock has.

    python3 pinned.py uv < uv.lock

pip installs uv by it; everything else is uv's then.
"""

from __future__ import annotations

import sys
import tomllib


def requirement(lock: str, name: str) -> str:
    """`name==version --hash=… …`. Raises SystemExit if the lock file does not have the package once."""
    found = [package for package in tomllib.loads(lock)["package"] if package["name"] == name]
    if len(found) != 1:
        raise SystemExit(f"uv.lock has {len(found)} packages {name!r}; it should have one")
    (package,) = found
    files = [*package.get("wheels", ()), *filter(None, [package.get("sdist")])]
    return " ".join(
        [f"{name}=={package['version']}", *(f"--hash={file['hash']}" for file in files)]
    )


if __name__ == "__main__":
    sys.stdout.write(requirement(sys.stdin.read(), sys.argv[1]) + "\n")
