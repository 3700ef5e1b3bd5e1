"""The log's two targets (rtcd.md 1.2)."""

from __future__ import annotations

import gzip
import io
import json
import logging
from pathlib import Path

import pytest

from foundation.layered_config import ConfigError
from foundation.logs import get_logger
from sfu.logging_setup import RotatedLogFile, set_up_logging
from sfu.settings import SfuSettings, load_settings


def settings(tmp_path: Path, **variables: str) -> SfuSettings:
    defaults = {"FILELOCATION": str(tmp_path / "rtcd.log")}
    environ = {f"RTCD_LOGGER_{name}": value for name, value in (defaults | variables).items()}
    return load_settings(None, environ)


def close_files() -> None:
    for handler in logging.getLogger().handlers:
        if isinstance(handler, RotatedLogFile):
            handler.close()


@pytest.fixture(autouse=True)
def _nothing_left_open():
    yield
    close_files()


def test_each_target_has_its_level_and_form(tmp_path: Path) -> None:
    console = io.StringIO()
    set_up_logging(settings(tmp_path, CONSOLELEVEL="WARN", FILELEVEL="debug"), stream=console)
    log = get_logger(component="test")
    log.debug("small", number=1)
    log.warning("large", auth_key="hidden")
    assert "large" in console.getvalue()
    assert "small" not in console.getvalue()
    lines = [json.loads(line) for line in (tmp_path / "rtcd.log").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["small", "large"]
    assert lines[1]["auth_key"] == "***"
    assert "hidden" not in console.getvalue()


def test_the_console_may_be_json_and_the_file_text(tmp_path: Path) -> None:
    console = io.StringIO()
    set_up_logging(settings(tmp_path, CONSOLEJSON="true", FILEJSON="false"), stream=console)
    get_logger().info("hello", number=7)
    assert json.loads(console.getvalue())["number"] == 7
    assert "number=7" in (tmp_path / "rtcd.log").read_text()


def test_a_target_that_is_off_gets_nothing(tmp_path: Path) -> None:
    console = io.StringIO()
    set_up_logging(settings(tmp_path, ENABLECONSOLE="false"), stream=console)
    get_logger().error("only the file")
    assert console.getvalue() == ""
    close_files()
    set_up_logging(settings(tmp_path, ENABLEFILE="false"), stream=console)
    get_logger().error("only the console")
    assert "only the console" in console.getvalue()
    assert "only the console" not in (tmp_path / "rtcd.log").read_text()


@pytest.mark.parametrize("level", ["panic", "FATAL", "stdlog", "trace"])
def test_every_level_can_be_set_up(tmp_path: Path, level: str) -> None:
    console = io.StringIO()
    set_up_logging(settings(tmp_path, CONSOLELEVEL=level, FILELEVEL=level), stream=console)
    get_logger().debug("detail")
    assert ("detail" in console.getvalue()) == (level in ("stdlog", "trace"))


def test_a_file_that_somebody_asked_for_has_to_be_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    wrong = settings(tmp_path, FILELOCATION=str(tmp_path / "file" / "rtcd.log"))
    with pytest.raises(ConfigError, match=r"logger\.file_location: .*rtcd\.log: "):
        set_up_logging(wrong, stream=io.StringIO())


def test_the_default_file_is_given_up_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in an image whose working directory cannot be written (rtcd.md 6.3)."""
    (tmp_path / "rtcd.log").mkdir()
    monkeypatch.chdir(tmp_path)
    console = io.StringIO()
    set_up_logging(load_settings(None, {}), stream=console)
    assert "log.file_unusable" in console.getvalue()


def test_a_full_file_is_put_aside_compressed_and_only_so_many_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "rtcd.log"
    file = RotatedLogFile(path, max_bytes=1000, keep=2)
    for number in range(100):
        file.emit(logging.makeLogRecord({"msg": f"line {number} " + "x" * 80}))
    file.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("rtcd.log", "rtcd.log.1.gz", "rtcd.log.2.gz"),
    ]
    newest = gzip.decompress((tmp_path / "rtcd.log.1.gz").read_bytes()).decode()
    text = newest + path.read_text()
    assert "line 99 " in text
    assert path.stat().st_size <= 1000
    assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o600}
