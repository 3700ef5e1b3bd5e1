"""Writes the small JSON files by which shim and service tell each other what is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

FORMAT = 1
"""Of what is in a job's directory of the process backend, in `shim.json`; without a number it is 1. A release
that adopts jobs of the one before knows that one's, too."""


def write_json(path: str, document: Mapping[str, object], *, durable: bool = False) -> None:
    """Replace `path` at once: a reader sees the old or the new document, `durable` also after a power cut."""
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(document, file)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(temporary, path)
