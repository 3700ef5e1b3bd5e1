"""What a page reads without end ends with its session; a file that is under way does not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from offloader.api.page_data import COOKIE, PageData
from offloader.api.page_sessions import IDLE_S, PageSessions

pytestmark = pytest.mark.looptime
JOB = "jobs/5f0c3ba1d29e"


class Asked:
    """One request to the door, over routes that send a byte each minute."""

    def __init__(
        self,
        sessions: PageSessions,
        token: str,
        path: str,
        *,
        length: int = 0,
        thinks_s: float = 0.0,
    ) -> None:
        self._thinks_s = thinks_s
        self.sent: list[dict[str, Any]] = []
        self.cancelled = False
        self._length = length
        self.authorization = b""
        door = PageData(self._route, sessions, admin_key="here", show_content=True)
        scope = {
            "type": "http",
            "method": "GET",
            "path": f"/page/api/{path}",
            "path_params": {"path": path},
            "query_string": b"",
            "headers": [(b"cookie", f"{COOKIE}={token}".encode()), (b"authorization", b"Basic x")],
        }
        self.answering = asyncio.ensure_future(door(scope, self._receive, self._send))

    @property
    def ended(self) -> bool:
        return self.sent[-1].get("more_body") is False

    async def _route(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        self.authorization = headers[b"authorization"]
        assert b"cookie" not in headers
        await asyncio.sleep(self._thinks_s)
        length = [(b"content-length", str(self._length).encode())] if self._length else []
        await send({"type": "http.response.start", "status": 200, "headers": length})
        count = 0
        try:
            while not self._length or count < self._length:
                await asyncio.sleep(60)
                count += 1
                more = count != self._length
                await send({"type": "http.response.body", "body": b"x", "more_body": more})
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    async def _receive(self) -> Any:
        await asyncio.Event().wait()

    async def _send(self, message: Any) -> None:
        self.sent.append(message)


async def test_a_stream_ends_when_nobody_has_done_anything_for_too_long(loop_clock) -> None:
    sessions = PageSessions(clock=loop_clock)
    token = sessions.open()
    asked = Asked(sessions, token, "events")
    await asyncio.sleep(IDLE_S - 600)
    assert sessions.get(token, touch=True)
    await asyncio.sleep(IDLE_S - 1)
    assert not asked.answering.done(), "somebody did something meanwhile"
    await asyncio.sleep(2)
    await asked.answering
    assert (asked.cancelled, asked.ended) == (True, True)
    assert asked.authorization.startswith(b"Basic ")
    assert asked.authorization != b"Basic x"


async def test_reading_events_is_nobody_doing_anything(loop_clock) -> None:
    sessions = PageSessions(clock=loop_clock)
    token = sessions.open()
    await asyncio.sleep(IDLE_S - 60)
    asked = Asked(sessions, token, "events")
    await asyncio.sleep(61)
    await asked.answering
    assert sessions.get(token, touch=True) is None


async def test_a_logout_ends_a_stream_at_once(loop_clock) -> None:
    sessions = PageSessions(clock=loop_clock)
    token = sessions.open()
    asked = Asked(sessions, token, f"{JOB}/logs")
    await asyncio.sleep(1)
    sessions.end(token)
    await asyncio.sleep(1)
    assert asked.answering.done()
    assert asked.ended


async def test_a_file_that_is_under_way_is_sent_to_its_end(loop_clock) -> None:
    sessions = PageSessions(clock=loop_clock)
    token = sessions.open()
    asked = Asked(sessions, token, f"{JOB}/artifacts/r/a.mp4", length=60)
    await asyncio.sleep(IDLE_S + 60)
    assert not asked.answering.done()
    await asked.answering
    assert sum(len(message.get("body", b"")) for message in asked.sent) == 60
    assert not asked.cancelled


async def test_a_stream_that_begins_when_the_session_has_ended_ends_at_once(loop_clock) -> None:
    sessions = PageSessions(clock=loop_clock)
    token = sessions.open()
    asked = Asked(sessions, token, f"{JOB}/logs", thinks_s=5)
    await asyncio.sleep(1)
    sessions.end(token)
    await asyncio.sleep(5)
    assert asked.answering.done()
    assert asked.ended


async def test_who_goes_away_takes_what_was_asked_along(loop_clock) -> None:
    sessions = PageSessions(clock=loop_clock)
    asked = Asked(sessions, sessions.open(), "events")
    await asyncio.sleep(1)
    asked.answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked.answering
    assert asked.cancelled
