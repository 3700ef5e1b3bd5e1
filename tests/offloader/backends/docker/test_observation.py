from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from offloader.backends.base import Observation, Phase
from offloader.backends.docker.observation import observe, parse_time

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def container(status: str, **state: Any) -> dict[str, Any]:
    known = {"Status": status, "ExitCode": 0, "OOMKilled": False, "Error": ""}
    known["FinishedAt"] = "2026-11-21T11:59:00.123456789Z"
    return {
        "State": known | state,
        "Created": "2026-11-21T11:59:30.5Z",
        "HostConfig": {"Memory": 512 << 20},
    }


def look(
    details: dict[str, Any], *, killed: bool = False, tail: bytes = b"", now: datetime = NOW
) -> Observation:
    return observe(details, now=now, killed_after_grace=killed, log_tail=tail)


@pytest.mark.parametrize("status", ["running", "paused", "restarting"])
def test_what_may_run_runs(status: str) -> None:
    assert look(container(status)).phase is Phase.RUNNING


def test_a_container_that_was_just_made_is_starting() -> None:
    assert look(container("created")).phase is Phase.STARTING


@pytest.mark.documents("its-container-never-started")
def test_a_container_that_nobody_started_never_ran(documented) -> None:
    seen = look(container("created"), now=datetime(2026, 11, 21, 12, 5, tzinfo=UTC))
    assert (seen.phase, seen.exit_code) == (Phase.EXITED, None)
    documented("its-container-never-started", seen.detail)


def test_an_end_has_its_code_and_time() -> None:
    seen = look(container("exited", ExitCode=3))
    assert (seen.phase, seen.exit_code, seen.detail) == (Phase.EXITED, 3, "")
    assert seen.stopped_at == datetime(2026, 11, 21, 11, 59, 0, 123456, tzinfo=UTC)


@pytest.mark.documents("killed-for-its-memory")
def test_too_much_memory_is_named_with_the_limit(documented) -> None:
    seen = look(container("exited", ExitCode=137, OOMKilled=True))
    documented("killed-for-its-memory", seen.detail)
    assert "512 MiB" in seen.detail


@pytest.mark.parametrize(
    ("killed", "word"),
    [
        pytest.param(True, "grace", marks=pytest.mark.documents("killed-after-the-grace")),
        pytest.param(False, "signal 9", marks=pytest.mark.documents("killed-by-somebody-else")),
    ],
)
def test_a_kill_by_us_is_told_from_one_by_others(killed: bool, word: str, documented) -> None:
    detail = look(container("exited", ExitCode=137), killed=killed).detail
    assert word in detail
    documented.marked(detail)


@pytest.mark.documents("ended-by-its-own-timer")
def test_a_job_that_had_to_end_itself_says_so(documented) -> None:
    seen = look(container("exited", ExitCode=142))
    assert seen.exit_code == 142
    documented("ended-by-its-own-timer", seen.detail)


def test_a_program_that_init_could_not_start_never_ran() -> None:
    tail = b"[FATAL tini (7)] exec /no/such failed: No such file or directory\n"
    seen = look(container("exited", ExitCode=127), tail=tail)
    assert (seen.exit_code, seen.detail) == (
        None,
        "exec /no/such failed: No such file or directory",
    )
    assert look(container("exited", ExitCode=127), tail=b"my own 127\n").exit_code == 127


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2026-11-21T07:16:51Z", 0),
        ("2026-11-21T07:16:51.5Z", 500_000),
        ("2026-11-21T07:16:51.123456789Z", 123_456),
    ],
)
def test_the_engines_times_are_read(text: str, microsecond: int) -> None:
    assert parse_time(text) == datetime(2026, 11, 21, 7, 16, 51, microsecond, tzinfo=UTC)


def test_year_one_means_never() -> None:
    assert parse_time("0001-01-01T00:00:00Z") is None
