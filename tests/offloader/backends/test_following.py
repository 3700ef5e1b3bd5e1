"""Logs that grow: read again and again, and file after file."""

from __future__ import annotations

from pathlib import Path

import pytest

from offloader.backends.base import Observation, Phase
from offloader.backends.following import follow_by_reading
from offloader.backends.process_files import LOG_CUT
from offloader.backends.process_output import LogFollower
from offloader.backends.stub import StubBackend
from offloader.models import Workload

WORKLOAD = Workload("stub", {"id": "job"})


@pytest.mark.looptime
async def test_reading_again_gives_every_byte_once() -> None:
    backend = StubBackend(observations={"job": Observation(Phase.RUNNING)}, log=b"one\n")
    got = b""
    async for chunk in follow_by_reading(backend, WORKLOAD):
        got += chunk
        if got == b"one\n":
            backend.log += b"two\n"
        if got == b"one\ntwo\n":
            backend.log += b"three\n"
            backend.exit("job", 0)
    assert got == b"one\ntwo\nthree\n"


def read_all(follower: LogFollower) -> bytes:
    return b"".join(iter(follower.read, b""))


def test_a_follower_moves_on_to_the_next_file(tmp_path: Path) -> None:
    follower = LogFollower(tmp_path)
    (tmp_path / "job.log").write_bytes(b"a")
    assert read_all(follower) == b"a"
    (tmp_path / "job.log").write_bytes(b"ab")
    (tmp_path / "job.tail.1.log").write_bytes(b"c")
    assert read_all(follower) == b"bc"


def test_a_follower_tells_of_files_that_were_dropped_before_it_read_them(tmp_path: Path) -> None:
    follower = LogFollower(tmp_path)
    (tmp_path / "job.log").write_bytes(b"a\n")
    assert read_all(follower) == b"a\n"
    (tmp_path / "job.tail.7.log").write_bytes(b"y\n")
    (tmp_path / "job.tail.8.log").write_bytes(b"z\n")
    assert read_all(follower) == LOG_CUT + b"y\nz\n"
    (tmp_path / "job.tail.8.log").unlink()
    (tmp_path / "job.tail.9.log").write_bytes(b"!\n")
    assert read_all(follower) == LOG_CUT + b"!\n"


def test_a_job_that_wrote_nothing_has_an_empty_log(tmp_path: Path) -> None:
    assert read_all(LogFollower(tmp_path / "gone")) == b""
