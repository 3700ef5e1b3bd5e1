"""A job's files as a hostile job leaves them: its own plain files are listed and read, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from foundation.copies.stores import DirectoryStore, StoreError
from offloader.backends import process_output
from offloader.backends.process_output import list_artifacts, read_artifact
from offloader.errors import BackendError

SECRET = b"the service's key"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Of a job, beside what is the service's own."""
    (tmp_path / "offloader.db.key").write_bytes(SECRET)
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "film.mp4").write_bytes(SECRET)
    made = tmp_path / "job" / "data"
    (made / "r1").mkdir(parents=True)
    (made / "r1" / "film.mp4").write_bytes(b"own")
    return made


def names(data: Path) -> list[str]:
    return [artifact.name for artifact in list_artifacts(data)]


def content(data: Path, name: str) -> bytes:
    return b"".join(read_artifact(data, name))


def a_symbolic_link(place: Path, root: Path) -> None:
    place.symlink_to(root / "offloader.db.key")


def a_hard_link(place: Path, root: Path) -> None:
    place.hardlink_to(root / "offloader.db.key")


def a_fifo(place: Path, root: Path) -> None:
    os.mkfifo(place)


def a_link_to_a_directory(place: Path, root: Path) -> None:
    place.symlink_to(root / "others")


@pytest.mark.parametrize("leave", [a_symbolic_link, a_hard_link, a_fifo, a_link_to_a_directory])
def test_links_of_either_kind_and_pipes_expose_nothing(leave, data: Path, tmp_path: Path) -> None:
    leave(data / "r1" / "x", tmp_path)
    assert names(data) == ["r1/film.mp4"]
    for name in ("r1/x", "r1/x/film.mp4"):
        with pytest.raises(BackendError):
            content(data, name)
    assert content(data, "r1/film.mp4") == b"own"


@pytest.mark.parametrize(
    "name",
    [
        *("../../offloader.db.key", "r1/../../../offloader.db.key", "/etc/passwd", "./r1/film.mp4"),
        *("r1//film.mp4", "r1/film.mp4/", "r1", "", ".", "..", "r1/film.mp4\0", "r1/\0/../x"),
    ],
)
def test_a_name_leads_nowhere_else(name: str, data: Path) -> None:
    with pytest.raises(BackendError):
        content(data, name)


def test_its_whole_directory_may_be_a_link(data: Path, tmp_path: Path) -> None:
    """A job under the service's user can do that."""
    data.rename(tmp_path / "aside")
    data.symlink_to(tmp_path / "others")
    assert names(data) == []
    with pytest.raises(BackendError):
        content(data, "film.mp4")


def test_a_directory_that_becomes_a_link_while_it_is_listed_shows_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.stat

    def swapped(name, **options):
        status = real(name, **options)
        if name == "r1":
            (data / "r1").rename(tmp_path / "aside")
            (data / "r1").symlink_to(tmp_path / "others")
        return status

    monkeypatch.setattr(process_output.os, "stat", swapped)
    assert names(data) == []


def test_a_file_that_becomes_a_link_after_it_was_listed_is_not_read(
    data: Path, tmp_path: Path
) -> None:
    assert names(data) == ["r1/film.mp4"]
    (data / "r1" / "film.mp4").unlink()
    (data / "r1" / "film.mp4").hardlink_to(tmp_path / "offloader.db.key")
    with pytest.raises(BackendError):
        content(data, "r1/film.mp4")


def test_what_has_no_end_is_not_walked_for_ever(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = data
    for _ in range(40):
        deep /= "d"
        deep.mkdir()
    (deep / "film.mp4").touch()
    before = len(os.listdir("/proc/self/fd"))
    assert names(data) == ["r1/film.mp4"]
    assert len(os.listdir("/proc/self/fd")) == before
    monkeypatch.setattr(process_output, "_MOST_ENTRIES", 50)
    for number in range(200):
        (data / "r1" / f"{number}").touch()
    assert len(names(data)) < 50
    assert len(os.listdir("/proc/self/fd")) == before


async def test_links_in_a_directory_of_copies_lead_nowhere(data: Path, tmp_path: Path) -> None:
    store = DirectoryStore(data)
    assert await store.get("r1/film.mp4") == b"own"
    assert await store.start_of("r1/film.mp4", 2) == b"ow"
    (data / "r1" / "x").symlink_to(tmp_path / "offloader.db.key")
    (data / "r2").symlink_to(tmp_path / "others")
    for key in ("r1/x", "r2/film.mp4", "../../offloader.db.key"):
        with pytest.raises(StoreError):
            await store.get(key)
        with pytest.raises(StoreError):
            await store.start_of(key, 2)
