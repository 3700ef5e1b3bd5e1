"""What a support bundle finds out about a service that is another process."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offloader import support_bundle_host as host
from offloader.settings import Reading, read_settings


@pytest.fixture
def other(tmp_path: Path) -> Iterator[int]:
    """A process with a directory and secrets of its own."""
    directory = tmp_path / "service"
    directory.mkdir()
    environ = {**os.environ, "ITS_TOKEN": "a-secret-of-the-service"}
    child = subprocess.Popen(["sleep", "60"], cwd=directory, env=environ)
    yield child.pid
    child.kill()
    child.wait()


def _reading(directory: Path, **environ: str) -> Reading:
    environ.setdefault("STORE_DATASOURCE", str(directory / "offloader.db"))
    return read_settings(directory / "none.toml", environ)


def test_secrets_of_the_services_environment_are_known(tmp_path: Path, other: int) -> None:
    reading = _reading(tmp_path)
    assert "a-secret-of-the-service" in host.known_secrets(reading, {}, other)
    assert "a-secret-of-the-service" not in host.known_secrets(reading, {}, None)


def test_secrets_of_configuration_and_key_file_are_known(tmp_path: Path) -> None:
    (tmp_path / "offloader.db.key").write_text("key-of-the-database\n")
    reading = _reading(
        tmp_path,
        API_SECURITY_ADMINSECRETKEY="key-of-the-admin",
        JOBS_HTTPSPROXY="http://user:of%20proxy@proxy:3128",
    )
    found = host.known_secrets(reading, {}, None)
    assert {"key-of-the-database", "key-of-the-admin", "of proxy", "of%20proxy"} <= found


def test_a_log_without_a_root_is_looked_for_where_the_service_is(
    tmp_path: Path, other: int
) -> None:
    (tmp_path / "service" / "its.log").write_text("line\n")
    reading = _reading(tmp_path, LOGGER_FILELOCATION="its.log")
    text, place = host.service_log(reading, other)
    assert (text, place) == ("line\n", str(tmp_path / "service" / "its.log"))


def test_only_the_end_of_a_long_log_is_taken_and_begins_with_a_line(tmp_path: Path) -> None:
    log = tmp_path / "long.log"
    log.write_text("".join(f"{number:07}\n" for number in range(100_000)))
    text, _ = host.service_log(_reading(tmp_path, LOGGER_FILELOCATION=str(log)), None)
    assert host.LOG_TAIL_BYTES - 8 <= len(text) <= host.LOG_TAIL_BYTES
    assert text.endswith("0099999\n")
    assert len(text.split("\n", 1)[0]) == 7


def test_a_log_that_is_nowhere_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no journalctl
    reading = _reading(tmp_path, LOGGER_FILELOCATION=str(tmp_path / "none.log"))
    with pytest.raises(OSError, match=r"none\.log: No such file.*no journalctl"):
        host.service_log(reading, None)


@pytest.mark.documents("a-log-that-the-support-bundle-lacks")
def test_a_journal_without_the_service_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, documented
) -> None:
    monkeypatch.setattr(host, "_output", lambda _: "")
    reading = _reading(tmp_path, LOGGER_FILELOCATION=str(tmp_path / "none.log"))
    with pytest.raises(OSError, match="none") as lacking:
        host.service_log(reading, None)
    documented("a-log-that-the-support-bundle-lacks", str(lacking.value))


def test_the_process_behind_a_socket_is_found(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(1)
        assert host.process_behind(path) == os.getpid()
    assert host.process_behind(path) is None
    assert host.process_behind(None) is None


def test_half_a_line_of_the_journal_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "password=abcdefgh\n" * 40_000
    monkeypatch.setattr(host, "_output", lambda _command: lines)
    reading = _reading(tmp_path, LOGGER_ENABLEFILE="false")
    text, _ = host.service_log(reading, None)
    assert len(text) <= host.LOG_TAIL_BYTES
    assert text.startswith("password=")


def test_a_directory_that_may_not_be_looked_into_costs_its_keys_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = _reading(tmp_path, API_SECURITY_ADMINSECRETKEY="key-of-the-admin")
    stat = os.stat

    def refused(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if str(path).startswith(str(tmp_path)):
            raise PermissionError(errno.EACCES, "Permission denied")
        return stat(path, *arguments, **options)

    monkeypatch.setattr("os.stat", refused)
    assert "key-of-the-admin" in host.known_secrets(reading, {}, None)
