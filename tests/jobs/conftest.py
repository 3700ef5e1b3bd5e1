"""A plugin and a call that the test plays, for jobs of both kinds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import Protocol

import pytest

from callclient.errors import CallError
from callclient.events import CallEvent, JobKind, JobStateChanged, Joined, TrackAdded
from callclient.plugin_api import ApiError, UploadSession, UserProfile
from callclient.receive.tracks import Codec, EncodedFrame, RemoteTrack, TrackSource
from callclient.state import CallState
from foundation.channel import Channel


class Packet(Protocol):
    """An Opus packet with its place in the call."""

    @property
    def payload(self) -> bytes: ...

    @property
    def call_ns(self) -> int: ...

    @property
    def duration_ns(self) -> int: ...


class FakeApi:
    """The plugin as far as jobs talk to it; keeps what it was told."""

    def __init__(self) -> None:
        self.profiles: dict[str, UserProfile] = {}
        self.users: dict[str, UserProfile] = {}
        self.images: dict[str, bytes] = {}
        self.lookups: list[str] = []
        self.statuses: list[tuple[str, str]] = []
        self.uploads: list[tuple[str, bytes]] = []
        """(filename, content) of finished uploads; the file's id is `file<index>`."""
        self.posts: list[dict[str, object]] = []
        self.publish_error: ApiError | None = None
        self.post_of_file_error: ApiError | None = None
        self._open: dict[str, str] = {}

    async def __aenter__(self) -> FakeApi:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def filename(self, channel_id: str) -> str:
        return "Call_Town Square_2026-01-31_10-05-09"

    async def profile(self, channel_id: str, session_id: str) -> UserProfile:
        self.lookups.append(session_id)
        if session_id not in self.profiles:
            raise ApiError("GET profile: refused with HTTP 404", status=404, retryable=False)
        return self.profiles[session_id]

    async def users_by_ids(self, user_ids: list[str]) -> list[UserProfile]:
        return [self.users[user_id] for user_id in user_ids if user_id in self.users]

    async def report_status(
        self, channel_id: str, job_id: str, *, job_type: str, status: str, error: str = ""
    ) -> None:
        self.statuses.append((status, error))

    async def create_upload(
        self, channel_id: str, *, filename: str, file_size_bytes: int
    ) -> UploadSession:
        upload_id = f"upload{len(self._open)}"
        self._open[upload_id] = filename
        return UploadSession(upload_id, file_size_bytes, 0)

    async def send_upload_data(
        self, upload_id: str, data: AsyncIterator[bytes], *, length_bytes: int
    ) -> str:
        self.uploads.append((self._open[upload_id], b"".join([chunk async for chunk in data])))
        return f"file{len(self.uploads) - 1}"

    async def user_image(self, user_id: str) -> bytes:
        if user_id not in self.images:
            raise ApiError("GET image: refused with HTTP 404", status=404, retryable=False)
        return self.images[user_id]

    async def post_of_file(self, file_id: str) -> str:
        if self.post_of_file_error is not None:
            raise self.post_of_file_error
        posted = any(file_id in post["file_ids"] for post in self.posts)
        return "post" if posted else ""

    async def publish_recording(self, channel_id: str, **post: object) -> None:
        await self.publish_transcription(channel_id, **post)

    async def publish_transcription(self, channel_id: str, **post: object) -> None:
        if self.publish_error is not None:
            raise self.publish_error
        self.posts.append(post)

    @property
    def vtt(self) -> str:
        """The captions of the only post, found the way a client finds them."""
        (post,) = self.posts
        first = post["file_ids"][0]
        return self.uploads[int(first.removeprefix("file"))][1].decode()


class FakePeer:
    """A call client whose call is written by the test."""

    def __init__(self) -> None:
        self.state = CallState()
        self.captions: list[tuple[str, str]] = []
        self.metrics: list[str] = []
        self.tracks: list[RemoteTrack] = []
        self.failure: CallError | None = None
        self.zero_ns = time.monotonic_ns()
        """Where the recording's start lies; 1000 on the server's clock."""
        self._events: Channel[CallEvent] = Channel(1000)
        self._over = asyncio.Event()

    async def run(self) -> None:
        await self._over.wait()
        for track in self.tracks:
            track.end()
        self._events.close()
        if self.failure is not None:
            raise self.failure

    async def leave(self) -> None:
        self._over.set()

    @property
    def left(self) -> bool:
        return self._over.is_set()

    def fail(self, error: CallError) -> None:
        self.failure = error
        self._over.set()

    def emit(self, *events: CallEvent) -> None:
        for event in events:
            self._events.offer(event)

    def events(self) -> Channel[CallEvent]:
        return self._events

    def server_ms_to_monotonic_ns(self, server_ms: int) -> int:
        return self.zero_ns + (server_ms - 1000) * 1_000_000

    async def send_caption(self, *, session_id: str, text: str, new_audio_len_ms: float) -> None:
        self.captions.append((session_id, text))

    async def send_metric(self, name: str, *, session_id: str) -> None:
        self.metrics.append(name)

    def begin(self) -> None:
        """Join; the recording starts."""
        self.emit(Joined("own-session"), JobStateChanged(JobKind.RECORDING, 900, 1000, 0, ""))

    def add_voice(
        self, name: str, *, source: TrackSource = TrackSource.VOICE, track_id: str = ""
    ) -> RemoteTrack:
        """A participant appears with a track; session `session-<name>`, user `user-<name>`."""
        session_id = f"session-{name}"
        self.state.join(session_id, f"user-{name}")
        track = RemoteTrack(
            track_id=track_id or f"track-{name}",
            session_id=session_id,
            source=source,
            codec=Codec.OPUS,
            capacity=4096,
        )
        self.tracks.append(track)
        self.emit(TrackAdded(track))
        return track

    def say(self, track: RemoteTrack, packets: Iterable[Packet]) -> None:
        """Deliver packets with their call times."""
        for packet in packets:
            track.deliver(
                EncodedFrame(
                    payload=packet.payload,
                    time_ns=self.zero_ns + packet.call_ns,
                    duration_ns=packet.duration_ns,
                    keyframe=True,
                    lost_before=0,
                )
            )

    async def until_taken(self) -> None:
        """Everything that was said so far is in the job's hands."""
        async with asyncio.timeout(25):
            while any(track.frames().statistics().waiting for track in self.tracks):
                await asyncio.sleep(0.01)

    async def until_call_s(self, call_s: float) -> None:
        """So much of the recording has passed: a call of that length, on the clock that the job has, too."""
        while (rest_ns := self.zero_ns + round(call_s * 1e9) - time.monotonic_ns()) > 0:
            await asyncio.sleep(rest_ns / 1e9)


@pytest.fixture
def api() -> FakeApi:
    """With profiles for alice, bob and carol."""
    fake = FakeApi()
    for name in ("alice", "bob", "carol"):
        fake.profiles[f"session-{name}"] = UserProfile(
            f"user-{name}", name, name.capitalize(), "Test"
        )
    return fake


@pytest.fixture
async def peer() -> FakePeer:
    return FakePeer()


@pytest.fixture
def make_peer() -> type[FakePeer]:
    """For tests with more calls than one."""
    return FakePeer
