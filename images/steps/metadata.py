"""Writes the metadata of our distribution into a directory of modules, as an installer would.

metadata.py DIRECTORY < pyproject.toml
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def main(directory: str) -> None:
    project = tomllib.loads(sys.stdin.read())["project"]
    name, version = project["name"], project["version"]
    place = Path(directory) / f"{name.replace('-', '_')}-{version}.dist-info"
    place.mkdir()
    lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
    lines.append(f"License-Expression: {project['license']}")
    (place / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
