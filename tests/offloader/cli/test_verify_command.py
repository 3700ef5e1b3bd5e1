from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import pytest

from foundation.file_manifest import next_line
from offloader.job_manifest import compare

POSTER, MANIFEST = "rec/artifacts/poster.jpg", "rec/artifacts/manifest.jsonl"


def kept() -> dict[str, bytes]:
    files = [
        {
            "name": "artifacts/poster.jpg",
            "size_bytes": 9,
            "sha256": hashlib.sha256(b"a picture").hexdigest(),
        }
    ]
    line = next_line(b"", {"event": "kept", "files": files})
    return {POSTER: b"a picture", MANIFEST: line, "rec/artifacts/job.log": b"{}\n"}


async def ended(served: Any, files: dict[str, bytes]) -> str:
    """A job with these files, which it has kept."""
    served.running.backend.files = files
    job_id: str = await served.running.create_job()
    served.running.backend.exit(job_id, 1)
    await served.running.check()
    return job_id


async def test_what_is_as_it_was_written_is_good(served: Any) -> None:
    files = kept()
    job_id = await ended(served, files)
    result = await served.run("jobs", "verify", job_id)
    assert result.code == 0, result.err
    last = hashlib.sha256(files[MANIFEST].rstrip()).hexdigest()
    assert result.out.splitlines()[1].split() == [job_id, "1", "good"]
    assert result.out.splitlines()[2].endswith(last)
    whole = await served.run("jobs", "verify", "--all", "--json")
    (verdict,) = whole.json["jobs"]
    assert (verdict["id"], verdict["problem"], verdict["sha256"]) == (job_id, "", last)


@pytest.mark.documents("files-that-are-not-as-their-job-left-them")
async def test_a_mismatch_is_named_and_the_exit_code_says_so(served: Any, documented) -> None:
    job_id = await ended(served, {**kept(), POSTER: b"b picture"})
    for arguments in ((job_id,), ("--all",)):
        result = await served.run("jobs", "verify", *arguments)
        assert result.code == 1
        assert "poster.jpg: is not what it was" in result.err
        documented("files-that-are-not-as-their-job-left-them", result.err.strip())


CHAIN = "files-that-are-not-as-their-job-left-them"
LINE = kept()[MANIFEST]


@pytest.mark.documents(
    "files-that-are-not-as-their-job-left-them/2",
    "files-that-are-not-as-their-job-left-them/3",
    "files-that-are-not-as-their-job-left-them/4",
    "files-that-are-not-as-their-job-left-them/5",
)
def test_the_first_mismatch_is_named(documented) -> None:
    for entry, change, said in (
        ("", {POSTER: b"b picture"}, "poster.jpg: is not what it was"),
        ("", {POSTER: b"short"}, "has 5 bytes, the manifest says 9"),
        ("", {POSTER: None}, "poster.jpg: is in the manifest, and gone"),
        ("", {MANIFEST: None}, "it has no manifest"),
        ("", {"rec/artifacts/more.jpg": b"x"}, "more.jpg: is not in the manifest"),
        ("/2", {MANIFEST: b"{}\n"}, "line 1 is no line of a manifest"),
        ("/3", {MANIFEST: LINE.replace(b"kept", b"Kept") + next_line(LINE, {"files": []})}, ""),
        ("/4", {MANIFEST: LINE.replace(b'"prev":"0', b'"prev":"1')}, ""),
        ("/5", {MANIFEST: b""}, "manifest.jsonl: it is empty"),
    ):
        problem = problem_of({**kept(), **change})
        assert said in problem
        if entry:
            documented(CHAIN + entry, problem)


def problem_of(changed: Mapping[str, bytes | None]) -> str:
    files = {name: content for name, content in changed.items() if content is not None}

    def digest(name: str) -> tuple[int, str]:
        return len(files[name]), hashlib.sha256(files[name]).hexdigest()

    return compare(files, read=files.__getitem__, digest=digest).problem


async def test_without_kept_files_there_is_nothing_to_verify(served: Any) -> None:
    await ended(served, {})
    result = await served.run("jobs", "verify", "--all")
    assert (result.code, result.out) == (0, "no files are kept\n")


@pytest.mark.documents("a-job-whose-files-are-still-written", "verify-without-a-job")
async def test_a_running_job_and_no_job_are_refused(served: Any, documented) -> None:
    job_id = await served.running.create_job()
    await served.running.check()
    running = await served.run("jobs", "verify", job_id)
    assert running.code == 1
    documented("a-job-whose-files-are-still-written", running.err.strip())
    for arguments in ((), (job_id, "--all")):
        neither = await served.run("jobs", "verify", *arguments)
        assert neither.code == 2
        documented("verify-without-a-job", neither.err.strip())
