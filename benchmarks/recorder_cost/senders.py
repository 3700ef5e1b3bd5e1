"""Eight participants in one process: two talk by turns, one of them may share a screen.

    python -m benchmarks.recorder_cost.senders --world world.json --site-url URL [--screen FILE.webm]

Prints `joined` when everybody is in and all tracks flow; goes home at the end of its input.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from itertools import cycle
from pathlib import Path

import uvloop

from benchmarks.recorder_cost.cases import PARTICIPANTS, SCREEN_FRAMES_PER_S, TALKERS
from benchmarks.recorder_cost.content import read_frames
from callclient.client import CallClient, CallClientConfig
from callclient.events import Joined
from callclient.publish import LocalTrack
from foundation.clock import SystemClock
from foundation.logs import configure_logs
from rtc.vp8 import packetize
from testbed.bots.pacing import Grid, ticks
from testbed.bots.voice import TICK_NS, silence_packet
from testbed.bots.world import World, read_world
from testbed.speech.clips import CLIPS_DIRECTORY, SILENT_LEVEL, Clip, load_clips
from testbed.speech.opus_file import PACKET_SAMPLES

_PAUSE_PACKETS = 100
_SPEAKERS = ("alice", "bob", "carol")
"""Of the bundled clips."""
_CLOCK = SystemClock()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--world", type=Path, required=True)
    parser.add_argument("--site-url", required=True)
    parser.add_argument("--screen", type=Path)
    options = parser.parse_args()
    configure_logs(level="warning")
    silence_packet()
    uvloop.run(_run(options.site_url, read_world(options.world), options.screen))


async def _run(site_url: str, world: World, screen: Path | None) -> None:
    users = [world.users[world.host], *(u for n, u in world.users.items() if n != world.host)]
    clips = load_clips(CLIPS_DIRECTORY, speakers=_SPEAKERS)
    frames = read_frames(screen) if screen is not None else []
    async with asyncio.TaskGroup() as tasks:
        clients = []
        for number in range(PARTICIPANTS):
            user = users[number % len(users)]
            config = CallClientConfig(
                site_url=site_url, auth_token=user.token, channel_id=world.channel_id
            )
            client = CallClient(config)
            tasks.create_task(client.run())
            joined = asyncio.Event()
            tasks.create_task(_read_events(client, joined))
            await joined.wait()
            clients.append(client)
        senders = []
        for number in range(TALKERS):
            track = await clients[number].publish_voice()
            await clients[number].set_muted(False)
            senders.append(tasks.create_task(_talk(track, clips[_SPEAKERS[number]])))
        if frames:
            video, _ = await clients[0].start_screen()
            senders.append(tasks.create_task(_show(video, frames)))
        print("joined", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for sender in senders:
            sender.cancel()
        for client in clients:
            await client.leave()


async def _read_events(client: CallClient, joined: asyncio.Event) -> None:
    async for event in client.events():
        if isinstance(event, Joined):
            joined.set()


async def _talk(track: LocalTrack, clips: list[Clip]) -> None:
    """One clip after the other with pauses; silence is sent too, as an open microphone does."""
    packets = []
    for clip in clips:
        packets += list(zip(clip.packets, clip.levels, strict=True))
        packets += [(silence_packet(), SILENT_LEVEL)] * _PAUSE_PACKETS
    source = cycle(packets)
    offset = random.getrandbits(32)
    async for tick in ticks(_CLOCK, Grid(_CLOCK.monotonic_ns(), TICK_NS)):
        payload, level = next(source)
        timestamp = (offset + tick * PACKET_SAMPLES) & 0xFFFFFFFF
        track.send(payload, rtp_timestamp=timestamp, marker=tick == 0, audio_level=level)


async def _show(track: LocalTrack, frames: list[bytes | None]) -> None:
    """The film again and again; from its start, which is the key frame, when somebody asks for one."""
    offset, picture_id = random.getrandbits(32), random.getrandbits(15)
    index = 0
    interval_ns = 1_000_000_000 // SCREEN_FRAMES_PER_S
    async for tick in ticks(_CLOCK, Grid(_CLOCK.monotonic_ns(), interval_ns)):
        if track.key_frame_wanted:
            index = 0
        frame = frames[index]
        index = (index + 1) % len(frames)
        if frame is None:
            continue
        payloads = packetize(frame, picture_id=picture_id)
        timestamp = (offset + tick * 90_000 // SCREEN_FRAMES_PER_S) & 0xFFFFFFFF
        for number, payload in enumerate(payloads, 1):
            track.send(payload, rtp_timestamp=timestamp, marker=number == len(payloads))
        picture_id = (picture_id + 1) & 0x7FFF


if __name__ == "__main__":
    main()
