"""The log file: its cap, its age, its mode, what it holds."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import stat
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import structlog

from foundation.layered_config import ConfigError
from foundation.logs import get_logger
from offloader.log_file import CappedLogFile
from offloader.logging_setup import change_levels, set_up_logging
from offloader.settings import LoggerSettings, load_settings

DAY = timedelta(days=1)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


def write(handler: CappedLogFile, text: str) -> None:
    handler.emit(logging.LogRecord("x", logging.INFO, "", 0, text, None, None))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def open_log(
    path: Path, clock: Clock, *, keep: int = 2, age: timedelta | None = DAY
) -> CappedLogFile:
    return CappedLogFile(path, max_bytes=100, max_age=age, keep=keep, now=clock)


def test_the_file_is_put_aside_at_its_size_and_only_so_many_are_kept(
    tmp_path: Path, clock: Clock
) -> None:
    handler = open_log(tmp_path / "log", clock)
    for number in range(8):
        write(handler, f"{number}" * 60)
    handler.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    assert (tmp_path / "log").read_text() == "7" * 60 + "\n"
    assert (tmp_path / "log.2").read_text() == "5" * 60 + "\n"
    assert {stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()} == {0o600}


def test_the_file_is_put_aside_at_its_age(tmp_path: Path, clock: Clock) -> None:
    handler = open_log(tmp_path / "log", clock)
    write(handler, "old")
    clock.now_s += DAY.total_seconds() - 1
    write(handler, "same day")
    clock.now_s += 1
    write(handler, "new")
    handler.close()
    assert (tmp_path / "log").read_text() == "new\n"
    assert (tmp_path / "log.1").read_text() == "old\nsame day\n"


def test_the_age_goes_on_over_a_restart(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "log").write_text('{"time": "2027-01-01T00:00:00.5Z", "event": "first"}\n')
    clock.now_s = 1_798_761_600.0 + DAY.total_seconds() + 1  # a day after that moment
    handler = open_log(tmp_path / "log", clock)
    write(handler, "new")
    handler.close()
    assert "first" in (tmp_path / "log.1").read_text()


def test_files_put_aside_are_deleted_at_their_age(tmp_path: Path, clock: Clock) -> None:
    aged, fresh = tmp_path / "log.2", tmp_path / "log.1"
    for path, age_s in ((aged, DAY.total_seconds()), (fresh, 60)):
        path.write_text("x")
        os.utime(path, (clock.now_s - age_s, clock.now_s - age_s))
    handler = open_log(tmp_path / "log", clock)
    write(handler, "new")
    handler.close()
    assert (aged.exists(), fresh.exists()) == (False, True)


def test_without_an_age_only_the_size_counts(tmp_path: Path, clock: Clock) -> None:
    handler = open_log(tmp_path / "log", clock, age=None)
    write(handler, "old")
    clock.now_s += 1e9
    write(handler, "new")
    handler.close()
    assert (tmp_path / "log").read_text() == "old\nnew\n"


@pytest.fixture
def no_traces() -> Iterator[None]:
    """The process's logging as it was before."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def settings(path: Path, **environ: str) -> LoggerSettings:
    here = {"LOGGER_FILELOCATION": str(path)}
    return load_settings(Path("/nonexistent"), here | environ).logger


@pytest.mark.usefixtures("no_traces")
def test_each_target_has_its_form_and_its_level_and_neither_shows_a_secret(tmp_path: Path) -> None:
    stream, path = io.StringIO(), tmp_path / "sub" / "log"
    set_up_logging(settings(path), stream=stream)
    get_logger().debug("thing.seen", job_id="a1", auth_token="hush")
    get_logger().info("thing.done", job_id="a2")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [
        ("thing.seen", "debug"),
        ("thing.done", "info"),
    ]
    assert lines[0]["auth_token"] == "***"
    assert "time" in lines[0]
    console = stream.getvalue()
    assert "thing.done" in console
    assert "thing.seen" not in console
    assert "{" not in console


@pytest.mark.usefixtures("no_traces")
def test_a_target_that_is_off_gets_nothing(tmp_path: Path) -> None:
    stream, path = io.StringIO(), tmp_path / "log"
    set_up_logging(settings(path, LOGGER_ENABLECONSOLE="false"), stream=stream)
    get_logger().error("thing.failed")
    assert stream.getvalue() == ""
    assert "thing.failed" in path.read_text()


@pytest.mark.usefixtures("no_traces")
def test_a_file_that_was_asked_for_and_cannot_be_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"logger\.file_location: /proc/x/log: "):
        set_up_logging(settings(Path("/proc/x/log")), stream=io.StringIO())


@pytest.mark.usefixtures("no_traces")
def test_the_default_file_is_given_up_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/proc")
    stream = io.StringIO()
    set_up_logging(load_settings(Path("/nonexistent"), {}).logger, stream=stream)
    assert "log.file_unusable" in stream.getvalue()


@pytest.mark.usefixtures("no_traces")
def test_levels_that_change_count_for_loggers_that_have_logged_already(tmp_path: Path) -> None:
    stream, path = io.StringIO(), tmp_path / "log"
    set_up_logging(
        settings(path, LOGGER_CONSOLELEVEL="error", LOGGER_FILELEVEL="info"), stream=stream
    )
    log = get_logger()
    log.info("thing.before")
    log.debug("thing.hidden")
    change_levels(settings(path, LOGGER_CONSOLELEVEL="debug", LOGGER_FILELEVEL="warn"))
    log.debug("thing.shown")
    logging.getLogger("sqlalchemy").info("values of rows")
    change_levels(settings(path, LOGGER_CONSOLELEVEL="error", LOGGER_FILELEVEL="warn"))
    log.info("thing.after")
    assert [json.loads(line)["event"] for line in path.read_text().splitlines()] == ["thing.before"]
    assert ["thing.shown" in line for line in stream.getvalue().splitlines()] == [True]


@pytest.mark.usefixtures("no_traces")
@pytest.mark.parametrize("in_json", ["true", "false"])
def test_times_in_logs_are_rfc_3339_in_utc(tmp_path: Path, in_json: str) -> None:
    stream, path = io.StringIO(), tmp_path / "log"
    form = {"LOGGER_CONSOLEJSON": in_json, "LOGGER_FILEJSON": in_json}
    set_up_logging(settings(path, **form), stream=stream)
    get_logger().info("ours")
    logging.getLogger("another.library").warning("theirs")
    lines = [*stream.getvalue().splitlines(), *path.read_text().splitlines()]
    assert len(lines) == 4
    for line in lines:
        assert re.search(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\b", line), line
