"""Networks that do not let UDP through: the call goes by TCP."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import pytest
import pytest_asyncio

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.timeout(90),
    pytest.mark.asyncio(loop_scope="module"),
]

_LOST_OR_MOVED = """async () => {
    const { state, path } = await call.summary();
    return state === "disconnected" || path?.protocol === "tcp";
}"""

BlockUdp = Callable[[], AbstractAsyncContextManager[None]]


async def _iptables(action: str, port: int, direction: str) -> bool:
    """Whether it did; datagrams from and to the SFU's media port on loopback are dropped."""
    process = await asyncio.create_subprocess_exec(
        "iptables",
        "-w",
        action,
        "INPUT",
        *("-i", "lo", "-p", "udp", f"--{direction}", str(port), "-j", "DROP"),
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await process.wait() == 0


@pytest_asyncio.fixture(loop_scope="module")
async def udp_blocked(meeting, engine_missing) -> BlockUdp:
    """`async with udp_blocked():` no datagram reaches the SFU, and none comes from it."""
    port = meeting.settings.ports.media
    if shutil.which("iptables") is None or not await _iptables("-I", port, "sport"):
        engine_missing("iptables", "not on PATH, or not allowed")
    await _iptables("-D", port, "sport")

    @contextlib.asynccontextmanager
    async def blocked() -> AsyncIterator[None]:
        try:
            for direction in ("sport", "dport"):
                assert await _iptables("-I", port, direction)
            yield
        finally:
            for direction in ("sport", "dport"):
                await _iptables("-D", port, direction)

    return blocked


async def test_where_udp_is_blocked_a_call_is_joined_over_tcp(
    invite, meeting, udp_blocked: BlockUdp
) -> None:
    async with udp_blocked():
        alice, bob = await invite("alice"), await invite("bob")
        for guest in (alice, bob):
            path = (await guest.summary())["path"]
            assert (path["protocol"], path["remotePort"]) == ("tcp", meeting.settings.ports.media)
        await alice.do("unmute", "tone:600")
        await alice.do("shareScreen", "pattern:rgb(200,40,40)")
        alice_id = await alice.session_id()
        await bob.until_incoming(alice_id, "voice", "t.totalAudioEnergy > 0")
        await bob.until_colour(alice_id, "screen", (200, 40, 40))


async def test_a_call_moves_to_tcp_with_an_ice_restart_when_udp_stops_getting_through(
    invite, udp_blocked: BlockUdp
) -> None:
    """Without a restart it moves only if it has TCP candidates: Chromium gathers none once UDP connected."""
    alice, bob = await invite("alice"), await invite("bob")
    alice_id = await alice.session_id()
    await alice.do("unmute", "tone:600")
    await bob.until_incoming(alice_id, "voice", "t.packetsReceived > 10")
    assert (await bob.summary())["path"]["protocol"] == "udp"
    async with udp_blocked():
        for guest in (alice, bob):
            await guest.tab.until(_LOST_OR_MOVED, timeout_s=20)
            if (await guest.summary())["path"]["protocol"] != "tcp":
                await guest.do("restartIce")
            await guest.tab.until("async () => (await call.summary()).path?.protocol === 'tcp'")
        before = await bob.incoming(alice_id, "voice")
        assert before is not None
        more = before["packetsReceived"] + 50
        await bob.until_incoming(alice_id, "voice", f"t.packetsReceived > {more}")
        assert (await bob.listen(alice_id, "voice"))["hz"] == pytest.approx(600, abs=15)
