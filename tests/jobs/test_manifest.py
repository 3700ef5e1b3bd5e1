"""What a job leaves is listed, line after line, and a change of files or lines shows."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from callclient.events import MediaLost, MediaRestored
from foundation.file_manifest import NOTHING_BEFORE, ManifestError, entries_of, next_line
from jobs import job_directory
from jobs.connection_gaps import ConnectionGaps
from jobs.manifest import seal
from jobs.settings import JobSettings

ID = "abcdefghijklmnopqrstuvwxy"
S_NS = 1_000_000_000


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    settings = JobSettings("http://h", ID + "c", ID + "p", ID + "r", ID + "s", tmp_path)
    job_directory.create(settings, base_name="Call_X")
    return settings.directory


def test_each_end_adds_a_line_with_the_hash_of_the_one_before(directory: Path) -> None:
    (directory / "recording.mp4").write_bytes(b"all of it")
    gaps = ConnectionGaps()
    gaps.saw(MediaLost(since_ns=9 * S_NS), zero_ns=5 * S_NS)
    assert gaps.saw(MediaRestored(at_ns=10 * S_NS), zero_ns=5 * S_NS)
    gaps.save(directory)
    seal(directory, "ended")
    (directory / "artifacts").mkdir()
    (directory / "artifacts" / "poster.jpg").write_bytes(b"a picture")
    seal(directory, "kept")
    job_directory.remove(directory, keep="artifacts")
    path = directory / "artifacts" / "manifest.jsonl"
    assert path.stat().st_mode & 0o777 == 0o600
    first, second = entries_of(path.read_bytes())
    assert (first["event"], first["prev"]) == ("ended", NOTHING_BEFORE)
    assert [file["name"] for file in first["files"]] == ["connection.json", "recording.mp4"]
    assert first["gaps"] == [{"start_s": 4.0, "end_s": 5.0}]
    assert first["began_at"] <= first["at"] <= second["at"]
    assert first["at"].endswith("Z")
    assert set(first["versions"]) == {"release", "python"}
    assert second["prev"] == hashlib.sha256(path.read_bytes().splitlines()[0]).hexdigest()
    assert second["files"] == [
        {
            "name": "artifacts/poster.jpg",
            "size_bytes": 9,
            "sha256": hashlib.sha256(b"a picture").hexdigest(),
        }
    ]


def test_on_a_full_disk_what_is_set_aside_is_left_for_the_post(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (directory / "recording.mp4").write_bytes(b"all of it")
    reserve = directory / "reserve"
    reserve.write_bytes(b"\0")

    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(job_directory, "_write_private", full)
    seal(directory, "ended")
    assert reserve.exists()


def test_where_nothing_is_kept_nothing_is_written(directory: Path) -> None:
    seal(directory, "kept")
    assert not (directory / "artifacts").exists()
    assert sorted(path.name for path in directory.iterdir()) == ["job.json", "reserve"]


def test_links_out_of_the_directory_are_not_followed(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("somebody else's")
    (directory / "link").symlink_to(tmp_path / "other")
    seal(directory, "ended")
    assert not (directory / "manifest.jsonl").exists()


def test_a_broken_chain_is_not_made_whole(directory: Path) -> None:
    (directory / "recording.mp4").write_bytes(b"all of it")
    (directory / "manifest.jsonl").write_text("changed by somebody\n")
    seal(directory, "ended")
    assert (directory / "manifest.jsonl").read_text() == "changed by somebody\n"


def chain() -> list[bytes]:
    manifest = b""
    for name in ("a", "b", "c"):
        manifest += next_line(
            manifest, {"files": [{"name": name, "size_bytes": 1, "sha256": "0" * 64}]}
        )
    return manifest.splitlines(keepends=True)


def edited(lines: list[bytes]) -> list[bytes]:
    return [lines[0].replace(b'"a"', b'"x"'), *lines[1:]]


def cut(lines: list[bytes]) -> list[bytes]:
    return [*lines[:2], lines[2][:30]]


def named_twice(lines: list[bytes]) -> list[bytes]:
    entry = json.loads(lines[0])
    return [json.dumps({**entry, "files": entry["files"] * 2}).encode() + b"\n"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edited, "line 1 is not what it was when line 2 was written"),
        (lambda lines: [lines[0], lines[2]], "line 1 is not what it was when line 2"),
        (lambda lines: lines[1:], "line 1 is not how a manifest begins"),
        (cut, "line 3 is no line of a manifest"),
        (named_twice, "line 1 is no line of a manifest"),
    ],
)
def test_a_change_of_the_lines_is_named(
    change: Callable[[list[bytes]], list[bytes]], said: str
) -> None:
    assert len(entries_of(b"".join(chain()))) == 3
    with pytest.raises(ManifestError, match=said):
        entries_of(b"".join(change(chain())))
