"""A Chromium and a meeting (SFU and stand-in as processes) for each module; guests for each test.

Whatever a test is about, in the end no page may have had an error, no offer may have failed, no decoder
may have complained.
"""

from __future__ import annotations

import math
import struct
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from testbed.browser.chromium import (
    Chromium,
    ChromiumMissing,
    FakeDevices,
    find_chromium,
    started_chromium,
)
from testbed.browser.meeting import Guest, Meeting, started_meeting

MICROPHONE_HZ = 523


@pytest.fixture(scope="session")
def microphone_wav(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every made-up microphone hears: a tone, half a second on and half a second off."""
    path = tmp_path_factory.mktemp("sound") / "tone.wav"
    rate = 48_000
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        angles = (2 * math.pi * MICROPHONE_HZ * n / rate for n in range(rate))
        loud = [8000 if n < rate // 2 else 0 for n in range(rate)]
        samples = (round(v * math.sin(a)) for v, a in zip(loud, angles, strict=True))
        file.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return path


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def chromium(
    tmp_path_factory: pytest.TempPathFactory,
    microphone_wav: Path,
    engine_missing: Callable[[str, str], None],
) -> AsyncIterator[Chromium]:
    """The engine of these tests."""
    try:
        find_chromium()
    except ChromiumMissing as error:
        engine_missing("chromium", str(error))
    directory = tmp_path_factory.mktemp("chromium")
    devices = FakeDevices(sound=microphone_wav)
    async with started_chromium(directory, devices=devices) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def meeting(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Meeting]:
    """SFU and stand-in."""
    async with started_meeting(tmp_path_factory.mktemp("meeting")) as running:
        yield running


Invite = Callable[..., Awaitable[Guest]]


@pytest_asyncio.fixture(loop_scope="module")
async def invite(chromium: Chromium, meeting: Meeting) -> AsyncIterator[Invite]:
    """`await invite(name)`: somebody joins in a tab of their own. Everybody's health is judged at the end."""
    guests: list[Guest] = []
    complaints = len(chromium.decoder_errors())
    await meeting.configure(
        EnableSimulcast=False, EnableAV1=False, EnableDCSignaling=False, EnableVideo=True
    )

    async def invite_one(name: str) -> Guest:
        guest = await meeting.guest(chromium, name)
        guests.append(guest)
        await guest.join()
        return guest

    yield invite_one
    judged = [(g.tab.errors, (await g.summary()).get("negotiation")) for g in guests]
    for guest in guests:
        await guest.tab.run("() => call.leave()")
        await guest.tab.close()
    for errors, negotiation in judged:
        assert errors == []
        assert negotiation is not None
        assert negotiation["failures"] == []
        assert negotiation["conflicts"] == 0
    assert chromium.decoder_errors()[complaints:] == []
