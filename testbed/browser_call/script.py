"""What three people do in their tabs: a call of a minute with everything that browsers do to a recorder.

Time 0 is where the sound file of Alice's made-up microphone begins. She says one sentence each four
seconds as long as the call lasts; whether anybody hears it is up to her mute button.
"""

from __future__ import annotations

import asyncio
import wave
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from testbed.browser_call.actor import Actor
from testbed.browser_call.placing import loop_start_ns
from testbed.speech.clips import Clip
from testbed.speech.opus_file import RATE_HZ

LOOP_FIRST_S: Final = 0.8
LOOP_EVERY_S: Final = 4.0
HUM_HZ: Final = 2500
"""Far from the beeps (1000 Hz) and what stands beside them for comparison."""
HUM_S: Final = 0.5
"""How long each on and off of the storm with a tone lasts."""
STORM_S: Final = 0.2
COLOURS: Final = {1: (40, 60, 200), 2: (40, 160, 60), 3: (200, 120, 30)}
"""What tells the shared screens apart."""
CAMERA: Final = (170, 40, 170)
SIMULCAST_SHARE: Final = 3
END_S: Final = 56.2

_HEARD_AFTER_S: Final = 4.0
"""Then Alice's first sentence is on the tape."""


@dataclass(frozen=True, slots=True)
class Cast:
    """Who plays, and what the stage hands can do."""

    alice: Actor
    bob: Actor
    carol: Actor
    clips: Mapping[str, Sequence[Clip]]
    configure: Callable[..., Awaitable[Any]]
    """Change what clients that join from now on are told, such as EnableAV1."""

    @property
    def actors(self) -> tuple[Actor, ...]:
        return self.alice, self.bob, self.carol


def write_speech_loop(path: Path, clips: Sequence[Clip]) -> None:
    """The WAV file that Alice's microphone plays again and again."""
    total = np.zeros(round(len(clips) * LOOP_EVERY_S * RATE_HZ), np.float32)
    for number, clip in enumerate(clips):
        start = round((LOOP_FIRST_S + number * LOOP_EVERY_S) * RATE_HZ)
        total[start : start + len(clip.samples)] = clip.samples
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes((np.clip(total, -1, 1) * 32767).astype("<i2").tobytes())


async def perform(cast: Cast) -> int:
    """Play it; Alice and Bob are in the call. Returns time 0, ns of the monotonic clock.

    Raises:
        TabError, DevToolsError: a page did not do what it was told.
    """
    await cast.alice.unmute("stage:device")
    async with asyncio.TaskGroup() as opening:
        opening.create_task(_storm(cast), name="storm")
        await asyncio.sleep(_HEARD_AFTER_S)
    await cast.alice.collect()
    zero_ns = loop_start_ns(cast.alice, cast.clips["alice"][0], first_s=LOOP_FIRST_S)
    until = _Clock(zero_ns).until
    async with asyncio.TaskGroup() as parts:
        parts.create_task(_alice(cast, until), name="alice")
        parts.create_task(_bob(cast, until), name="bob")
        parts.create_task(_carol(cast, until), name="carol")
    await until(END_S)
    return zero_ns


Until = Callable[[float], Awaitable[None]]


async def _storm(cast: Cast) -> None:
    """Many changes, and he talks right after the last one."""
    await cast.bob.unmute()
    for _ in range(5):
        await asyncio.sleep(STORM_S)
        await cast.bob.mute()
        await asyncio.sleep(STORM_S)
        await cast.bob.unmute()
    await cast.bob.say(cast.clips["bob"][0])


async def _alice(cast: Cast, until: Until) -> None:
    alice = cast.alice
    await until(7.6)
    await alice.share(1, COLOURS[1], beeps=True)
    await until(11.8)  # between her third sentence and her fourth
    await alice.mute()
    await until(15.0)
    await alice.stop_share()
    await until(15.8)  # after her fourth, which nobody heard
    await alice.unmute()


async def _bob(cast: Cast, until: Until) -> None:
    bob, clips = cast.bob, cast.clips["bob"]
    await until(12.0)
    await bob.say(clips[1])
    await cast.configure(EnableAV1=True)
    await until(15.9)
    await bob.say(clips[2])
    await until(17.4)  # in mid-sentence
    await bob.reload()
    await bob.join()
    await bob.unmute()
    await asyncio.sleep(0.2)
    await bob.say(clips[3])
    await until(23.2)
    await bob.share(2, COLOURS[2], beeps=True)
    await cast.configure(EnableAV1=False, EnableSimulcast=True)
    await until(29.7)
    await bob.stop_share()
    await until(30.2)
    await bob.hum(HUM_HZ)
    for _ in range(5):
        await asyncio.sleep(HUM_S)
        await bob.mute()
        await asyncio.sleep(HUM_S)
        await bob.unmute()
    await bob.hum(0)
    await until(43.5)
    await bob.say(clips[4])


async def _carol(cast: Cast, until: Until) -> None:
    carol, clips = cast.carol, cast.clips["carol"]
    await until(23.8)  # Bob has shared by then, and she gets other settings
    await carol.join()
    await carol.unmute()
    await until(26.2)
    await carol.say(clips[0])
    await until(31.0)
    await carol.start_camera(CAMERA)
    await until(34.5)
    await carol.stop_camera()
    await until(35.5)
    await carol.share(SIMULCAST_SHARE, COLOURS[SIMULCAST_SHARE], beeps=True)
    await until(39.0)
    await carol.say(clips[1])
    # Long enough for the SFU to trust the recorder's way with the high layer: it took 7 to 11 s.
    await until(55.6)
    await carol.stop_share()


class _Clock:
    def __init__(self, zero_ns: int) -> None:
        self._zero_s = zero_ns / 1e9

    async def until(self, at_s: float) -> None:
        # The event loop's clock is the monotonic one.
        await asyncio.sleep(self._zero_s + at_s - asyncio.get_running_loop().time())
