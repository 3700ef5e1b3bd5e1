"""The server's ticker: feedback and reports of all sessions hang on it."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from sfu.media_port import SessionConfig
from sfu.messages import Close
from sfu.server import SfuServer


@pytest.mark.documents("something-went-wrong-in-a-session/2")
async def test_a_session_that_fails_in_its_tick_is_ended_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, documented
) -> None:
    monkeypatch.setattr("sfu.server._TICK_S", 0.005)
    server = SfuServer(bind_addresses=["127.0.0.1"], udp_port=0)
    await server.start()
    closed = asyncio.Event()
    ticks: list[int] = []
    try:
        for name in ("bad", "good"):
            config = SessionConfig("group", "call", "user", name)
            await server.join(config, lambda m: closed.set() if m == Close("bad") else None)

        def broken(now_ns: int) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(server._running["bad"].session, "tick", broken)
        monkeypatch.setattr(server._running["good"].session, "tick", ticks.append)
        with capture_logs() as lines:
            await asyncio.wait_for(closed.wait(), 25)
        failed = next(line for line in lines if line["log_level"] == "error")
        documented("something-went-wrong-in-a-session/2", failed["event"])
        seen = len(ticks)
        async with asyncio.timeout(25):
            while len(ticks) < seen + 3:
                await asyncio.sleep(0.005)
        assert server.session("bad") is None
        assert server.session("good") is not None
    finally:
        await server.close()
