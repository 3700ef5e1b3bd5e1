"""An error that nobody foresaw is told by kind and place: its text may hold a token, a name or speech."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable

import av
import pytest

from callclient.plugin_api import ApiError
from foundation.logs import configure_logs, get_logger
from foundation.tracebacks import summary, traceback_text

CANARY = "Zuzannabel-Qanaerytska"


@pytest.fixture
def lines() -> Callable[[], str]:
    """All that is logged."""
    stream = io.StringIO()
    configure_logs(level="debug", stream=stream)
    return stream.getvalue


def chained() -> None:
    try:
        dict[str, str]()[CANARY]
    except KeyError as error:
        members = [UnicodeDecodeError("utf-8", CANARY.encode(), 0, 1, CANARY), ValueError(CANARY)]
        for member in members:
            member.add_note(CANARY)
        raise ExceptionGroup(CANARY, members) from error


def test_causes_members_and_places_are_told_and_no_text(lines: Callable[[], str]) -> None:
    try:
        chained()
    except ExceptionGroup:
        get_logger().exception("job.failed")
    trace = json.loads(lines())["exception"]
    assert CANARY not in trace
    for kind in ("KeyError", "UnicodeDecodeError", "ValueError", "ExceptionGroup"):
        assert kind in trace
    assert trace.count("in chained") == 2
    assert trace.splitlines()[-1] == "ExceptionGroup"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            ApiError("POST upload: refused with HTTP 413", status=413, retryable=False),
            "callclient.plugin_api.ApiError: POST upload: refused with HTTP 413",
        ),
        (
            FileNotFoundError(2, CANARY, CANARY),
            "FileNotFoundError: [Errno 2] No such file or directory",
        ),
        (OSError(CANARY), "OSError"),
        (
            av.error.InvalidDataError(1094995529, "Invalid data found", CANARY),
            "av.error.InvalidDataError: Invalid data found",
        ),
        (
            socket.gaierror(-2, "Name or service not known"),
            "socket.gaierror: Name or service not known",
        ),
        (ssl.SSLError(1, CANARY), "ssl.SSLError"),
        (RuntimeError(CANARY), "RuntimeError"),
        (KeyError(), "KeyError"),
    ],
)
def test_only_texts_that_can_hold_nothing_of_anybody_are_told(
    error: BaseException, told: str
) -> None:
    assert summary(error) == told
    assert traceback_text(error) == told


def test_errors_that_lead_to_each_other_end() -> None:
    one, other = ValueError(), KeyError()
    one.__cause__, other.__cause__ = other, one
    assert traceback_text(one).splitlines()[-1] == "ValueError"


def test_what_nobody_waited_for_is_told_without_what_it_holds(lines: Callable[[], str]) -> None:
    async def fails() -> None:
        raise RuntimeError(CANARY)

    async def run() -> None:
        task = asyncio.create_task(fails(), name="copy")
        await asyncio.wait([task])
        del task
        gc.collect()

    asyncio.run(run())
    line = json.loads(lines())
    assert line["event"] == "Task exception was never retrieved (task copy)"
    assert line["exception"].splitlines()[-1] == "RuntimeError"
    assert CANARY not in json.dumps(line)


PROGRAM = """
import sys, threading
from foundation.logs import configure_logs
configure_logs()
def fail():
    raise RuntimeError(sys.argv[1])
class Ends:
    def __del__(self):
        fail()
Ends()
thread = threading.Thread(target=fail, name="voice")
thread.start()
thread.join()
fail()
"""


def test_destructors_threads_and_the_process_itself_end_in_the_same_words() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, CANARY],
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("RuntimeError") == 3
    assert "Exception in thread voice" in done.stderr
    assert CANARY not in done.stderr


def test_a_name_that_somebody_has_chosen_begins_no_line_and_steers_no_terminal() -> None:
    stream = io.StringIO()
    configure_logs(json=False, stream=stream)
    get_logger().warning("client.registered", client_id="\x1b[2J\u202e\x9b31m", reason="a\r\nb")
    logging.getLogger("library").warning("refused: %s", "x\ny\x1b]0;z\x07")
    try:
        raise ApiError("GET \x1b[31m: refused", status=403, retryable=False)
    except ApiError:
        get_logger().exception("job.failed")
    written = stream.getvalue()
    assert all(c.isprintable() or c == "\n" for c in written)
    first, second, *trace = written.splitlines()
    assert r"client_id=\x1b[2J\u202e\x9b31m" in first
    assert "refused: x" in second
    assert trace[-1].endswith(r"GET \x1b[31m: refused")
    assert len(trace) > 2, "a traceback keeps its lines"
