"""Compares what a job has kept with the manifest beside it (`foundation.file_manifest`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from foundation.file_manifest import NAME, ManifestError, digest_of, entries_of, is_listed

_PLACES: Final = (f"artifacts/{NAME}", NAME)
"""Below the directory of the result: of what is kept, and of what is not published."""

Digest = Callable[[str], tuple[int, str]]
"""Size in bytes and SHA-256 of a file of that name."""


@dataclass(frozen=True, slots=True)
class Found:
    """What there is to say about one job."""

    problem: str = ""
    """The first thing that is wrong; empty: nothing is."""
    missing: bool = False
    """There are files, and no manifest."""
    files: int = 0
    entries: int = 0
    sha256: str = ""
    """Of the manifest's last line; the job's log has it, too (`manifest.written`)."""


def compare(names: Collection[str], *, read: Callable[[str], bytes], digest: Digest) -> Found:
    """`names`: the job's files, below its DATA_DIR; `read` gives the manifest's content.

    Files of the work itself (`job.json`, logs) are in no manifest.
    """
    listed = {name for name in names if is_listed(name)}
    if not listed and not any(name.endswith(f"/{NAME}") for name in names):
        return Found()
    found = [
        (name, name.removesuffix(place))
        for place in _PLACES
        for name in names
        if name.count("/") == place.count("/") + 1 and name.endswith(f"/{place}")
    ]
    if not found:
        return Found(problem="it has no manifest", missing=True, files=len(listed))
    path, result = found[0]
    content = read(path)
    try:
        entries = entries_of(content)
        if not entries:
            raise ManifestError("it is empty")
    except ManifestError as error:
        return Found(problem=f"{path}: {error}", files=len(listed))
    told: Mapping[str, tuple[int, str]] = {
        result + file["name"]: (file["size_bytes"], file["sha256"]) for file in entries[-1]["files"]
    }
    return Found(
        problem=_first_mismatch(told, listed, digest),
        files=len(told),
        entries=len(entries),
        sha256=digest_of(content.splitlines()[-1]),
    )


def _first_mismatch(
    told: Mapping[str, tuple[int, str]], there: Collection[str], digest: Digest
) -> str:
    for name in sorted({*told, *there}):
        if name not in told:
            return f"{name}: is not in the manifest"
        if name not in there:
            return f"{name}: is in the manifest, and gone"
        size_bytes, sha256 = digest(name)
        if size_bytes != told[name][0]:
            return f"{name}: has {size_bytes} bytes, the manifest says {told[name][0]}"
        if sha256 != told[name][1]:
            return f"{name}: is not what it was when the manifest was written"
    return ""
