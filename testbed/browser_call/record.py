"""The whole product with browsers in its call: started, recorded, downloaded, taken down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from testbed.analysis.call import Call
from testbed.analysis.captions import Caption
from testbed.bots.world import World, read_world
from testbed.browser.chromium import Chromium, FakeDevices, started_chromium
from testbed.browser.meeting import Guest
from testbed.browser_call.actor import Actor
from testbed.browser_call.placing import Performed, performed
from testbed.browser_call.script import (
    LOOP_EVERY_S,
    LOOP_FIRST_S,
    Cast,
    perform,
    write_speech_loop,
)
from testbed.demo.options import DemoOptions, provide_models
from testbed.job_watch import log_events
from testbed.polling import until
from testbed.ports import Ports
from testbed.speech.clips import CLIPS_DIRECTORY, Clip, load_clips
from testbed.stack import Stack
from testbed.stack_settings import StackSettings

_KINDS: Final = ("recording", "transcribing")
_START_LIMIT_S: Final = 70.0
_STOP_LIMIT_S: Final = 20.0
_POSTS_LIMIT_S: Final = 120.0
_LOOP_CLIPS: Final = 6
PLAYED_FROM_S: Final = 10.0
PLAYED_S: Final = 3.0
SEEKS_S: Final = (45.13, 9.27, 26.41, 19.33, 13.08, 46.62, 28.9, 2.05)
"""There and back; in each of the shares and without one."""


class CallNotRecorded(Exception):
    """The call did not go as planned; the message says what did not happen."""


@dataclass(frozen=True, slots=True)
class Playback:
    """The recording in a video element of the same browser."""

    duration_s: float
    size: tuple[int, int]
    played: Sequence[tuple[float, float, Sequence[float]]]
    """Media time, wall clock, brightness of the squares: of each picture while it was played."""
    seeks: Sequence[tuple[float, float, Sequence[float]]]
    """Asked for, where the browser says it is, brightness of the squares."""


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """What came of it. Times in `call` and `captions` are recording times."""

    directory: Path
    call: Call
    performed: Performed
    actors: Mapping[str, Actor]
    captions: Sequence[Caption]
    job_exits: Mapping[str, int | None]
    page_errors: Mapping[str, Sequence[str]]
    decoder_errors: Sequence[str]
    playback: Playback
    can_av1: bool
    """Whether this build of Chromium encodes AV1."""
    recorded_codecs: frozenset[str]
    """What the recorder says it has decoded besides VP8."""

    @property
    def recording(self) -> Path:
        return self.directory / "recording.mp4"

    @property
    def vtt(self) -> str:
        return (self.directory / "transcript.vtt").read_text(encoding="utf-8")

    @property
    def text(self) -> str:
        return (self.directory / "transcript.txt").read_text(encoding="utf-8")


async def record_call(directory: Path) -> RecordedCall:
    """Play the script on a stack of its own, in `directory`, which is empty.

    Raises:
        ChromiumMissing, StartFailed: something did not start.
        CallNotRecorded, TabError, DevToolsError, NotOnTape: the call did not go as planned.
    """
    clips = await asyncio.to_thread(load_clips, CLIPS_DIRECTORY, speakers=("alice", "bob", "carol"))
    clips["alice"] = clips["alice"][:_LOOP_CLIPS]
    sound = directory / "microphone.wav"
    await asyncio.to_thread(write_speech_loop, sound, clips["alice"])
    work_dir = directory / "work"
    work_dir.mkdir()
    settings = StackSettings(
        work_dir=work_dir,
        log_dir=directory / "logs",
        models_dir=provide_models(DemoOptions(), work_dir),
        ports=Ports.free(),
    )
    async with (
        Stack(settings) as stack,
        started_chromium(directory / "chromium", devices=FakeDevices(sound=sound)) as chromium,
        httpx.AsyncClient(base_url=settings.site_url, timeout=30, trust_env=False) as http,
    ):
        return await _Recorder(directory, stack, chromium, http, clips).run()


class _Recorder:
    def __init__(
        self,
        directory: Path,
        stack: Stack,
        chromium: Chromium,
        http: httpx.AsyncClient,
        clips: Mapping[str, Sequence[Clip]],
    ) -> None:
        self._directory = directory
        self._stack = stack
        self._chromium = chromium
        self._http = http
        self._clips = clips
        self._world: World = read_world(stack.settings.world_file)

    async def run(self) -> RecordedCall:
        await self._configure(EnableVideo=True, EnableDCSignaling=True)
        cast = Cast(
            alice=await self._actor("alice"),
            bob=await self._actor("bob"),
            carol=await self._actor("carol"),
            clips=self._clips,
            configure=self._configure,
        )
        await cast.alice.join()
        await cast.bob.join()
        await cast.alice.guest.do("record", "start")
        await self._until("the jobs' start", lambda: self._all("start_at"), _START_LIMIT_S)
        with_zero = await perform(cast)
        await cast.alice.guest.do("record", "stop")
        await self._until("the jobs' end", lambda: self._all("end_at"), _STOP_LIMIT_S)
        can_av1 = bool(await cast.bob.guest.do("canSend", "video/AV1"))
        jobs = await self._jobs()
        captions = (await self._get("/testbed/captions")).json()
        for actor in cast.actors:
            await actor.collect()
        errors = {actor.name: tuple(actor.guest.tab.errors) for actor in cast.actors}
        for actor in cast.actors:
            await actor.guest.do("leave")
            await actor.guest.tab.close()
        file_id = await self._download()
        playback = await self._play(f"/testbed/files/{file_id}")
        await self._until("the end of the jobs' processes", self._ended, _STOP_LIMIT_S)
        epoch_offset_ns = time.time_ns() - time.monotonic_ns()
        known = await asyncio.to_thread(
            performed,
            cast.actors,
            self._clips,
            looped=cast.alice,
            first_ns=with_zero + round(LOOP_FIRST_S * 1e9),
            every_s=LOOP_EVERY_S,
            epoch_offset_ns=epoch_offset_ns,
        )
        call = Call(
            known.truth,
            self._world.users,
            zero_ns=known.truth.monotonic_ns(jobs["recording"]["start_at"]),
            end_ns=known.truth.monotonic_ns(jobs["recording"]["end_at"]),
        )
        return RecordedCall(
            directory=self._directory,
            call=call,
            performed=known,
            actors={actor.name: actor for actor in cast.actors},
            captions=[self._caption(call, caption) for caption in captions],
            job_exits={job.name: (job.exit or {}).get("exit_code") for job in self._stack.jobs()},
            page_errors=errors,
            decoder_errors=self._chromium.decoder_errors(),
            playback=playback,
            can_av1=can_av1,
            recorded_codecs=frozenset(
                str(record["codec"])
                for job in self._stack.jobs()
                for record in log_events(job, "video.codec")
            ),
        )

    async def _actor(self, name: str) -> Actor:
        return Actor(Guest(await self._chromium.open(self._page), name))

    @property
    def _page(self) -> str:
        return f"{self._stack.settings.site_url}/testbed/call/{self._world.channel_id}"

    async def _configure(self, **switches: bool) -> None:
        (await self._http.post("/testbed/config", json=switches)).raise_for_status()

    async def _jobs(self) -> dict[str, dict[str, Any]]:
        found = (await self._get(f"/testbed/calls/{self._world.channel_id}")).json()
        jobs: dict[str, dict[str, Any]] = found.get("jobs", {})
        return jobs

    async def _all(self, moment: str) -> bool:
        jobs = await self._jobs()
        for kind, job in jobs.items():
            if job["err"]:
                raise CallNotRecorded(f"{kind} failed: {job['err']}")
        return all(jobs.get(kind, {}).get(moment, 0) > 0 for kind in _KINDS)

    async def _ended(self) -> bool:
        jobs = self._stack.jobs()
        return len(jobs) == len(_KINDS) and all(job.exit is not None for job in jobs)

    async def _play(self, path: str) -> Playback:
        tab = await self._chromium.open(self._page)
        module = 'await import("/testbed/web/playback.js")'
        opened = await tab.run(f"async (url) => ({module}).openRecording(url)", path)
        played = await tab.run(
            f"async (from, length) => ({module}).playFrom(from, length)", PLAYED_FROM_S, PLAYED_S
        )
        seek = f"async (at) => [at, ...await ({module}).seekTo(at)]"
        seeks = [tuple(await tab.run(seek, at_s)) for at_s in SEEKS_S]
        await tab.close()
        size = opened["videoWidth"], opened["videoHeight"]
        return Playback(opened["duration"], size, [tuple(one) for one in played], seeks)

    async def _download(self) -> str:
        """The recording's file id."""
        posts: list[dict[str, Any]] = []

        async def posted() -> bool:
            posts[:] = (await self._get(f"/testbed/posts/{self._world.channel_id}")).json()
            types = [post["type"] for post in posts]
            return {"custom_calls_recording", "custom_calls_transcription"} <= set(types)

        await self._until("the posts", posted, _POSTS_LIMIT_S)
        by_type = {post["type"]: post for post in posts}
        transcription = by_type["custom_calls_transcription"]
        for file_id, name in (
            (by_type["custom_calls_recording"]["file_ids"][0], "recording.mp4"),
            (transcription["file_ids"][0], "transcript.txt"),
            (transcription["props"]["captions"][0]["file_id"], "transcript.vtt"),
        ):
            content = (await self._get(f"/testbed/files/{file_id}")).content
            await asyncio.to_thread((self._directory / name).write_bytes, content)
        return str(by_type["custom_calls_recording"]["file_ids"][0])

    def _caption(self, call: Call, caption: Mapping[str, Any]) -> Caption:
        at_ns = call.truth.monotonic_ns(caption["at_ms"])
        name = call.truth.sessions[caption["session_id"]]
        return Caption(call.time_s(at_ns), call.users[name].transcript_name, caption["text"])

    async def _get(self, path: str) -> httpx.Response:
        return (await self._http.get(path)).raise_for_status()

    async def _until(
        self, what: str, condition: Callable[[], Awaitable[bool]], limit_s: float
    ) -> None:
        await until(condition, what, limit_s=limit_s, failure=CallNotRecorded)
