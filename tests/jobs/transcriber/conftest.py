"""Clips with known words, as files and as packets; the small real model."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from callclient.errors import CallError
from callclient.events import CallEvent, JobKind, JobStateChanged, Joined, TrackAdded
from callclient.plugin_api import ApiError, UploadSession, UserProfile
from callclient.receive.tracks import Codec, EncodedFrame, RemoteTrack, TrackSource
from callclient.state import CallState
from foundation.channel import Channel
from jobs.transcriber.capture import VoicePacket
from jobs.transcriber.engines.base import SpeechEngine
from jobs.transcriber.engines.catalogue import find_model, load_engine
from jobs.transcriber.ogg import read_pages

DATA = Path(__file__).parent / "data"
MODELS = Path(__file__).parents[3] / "models"
PACKET_NS = 20_000_000


@dataclass(frozen=True)
class Sentence:
    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Clip:
    """One speaker's sentences with pauses."""

    name: str
    path: Path
    payloads: tuple[bytes, ...]
    """Opus packets of 20 ms."""
    sentences: tuple[Sentence, ...]

    def packets(self, *, start_ns: int = 0) -> list[VoicePacket]:
        """As if spoken without pause from `start_ns` on."""
        return [
            VoicePacket(payload, start_ns + index * PACKET_NS, PACKET_NS)
            for index, payload in enumerate(self.payloads)
        ]

    @property
    def text(self) -> str:
        return " ".join(sentence.text for sentence in self.sentences)


def load_clip(name: str) -> Clip:
    path = DATA / f"{name}.opus"
    with path.open("rb") as file:
        payloads = tuple(
            packet
            for page in read_pages(file)
            for packet in page.packets
            if not packet.startswith((b"OpusHead", b"OpusTags"))
        )
    document = json.loads(path.with_suffix(".json").read_text())
    sentences = tuple(Sentence(**sentence) for sentence in document["sentences"])
    return Clip(name, path, payloads, sentences)


@pytest.fixture(scope="session")
def clips() -> dict[str, Clip]:
    """alice, bob and carol: four sentences each, in 10 to 13 seconds."""
    return {name: load_clip(name) for name in ("alice", "bob", "carol")}


@pytest.fixture(scope="session")
def engine() -> SpeechEngine:
    """The bundled model of 97 words, two workers of one thread."""
    return load_engine(find_model(MODELS, "tiny"), workers=2, threads_per_worker=1)


class FakeApi:
    """The plugin as far as a transcriber talks to it; keeps what it was told."""

    def __init__(self) -> None:
        self.profiles: dict[str, UserProfile] = {}
        self.users: dict[str, UserProfile] = {}
        self.lookups: list[str] = []
        self.statuses: list[tuple[str, str]] = []
        self.uploads: list[tuple[str, bytes]] = []
        """(filename, content) of finished uploads; the file's id is `file<index>`."""
        self.posts: list[dict[str, object]] = []
        self.publish_error: ApiError | None = None
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

    async def send_upload_data(self, upload_id: str, data: bytes, *, length_bytes: int) -> str:
        self.uploads.append((self._open[upload_id], data))
        return f"file{len(self.uploads) - 1}"

    async def publish_transcription(self, channel_id: str, **post: object) -> None:
        if self.publish_error is not None:
            raise self.publish_error
        self.posts.append(post)

    @property
    def vtt(self) -> str:
        """The captions of the only post, found the way a client finds them."""
        (post,) = self.posts
        first = post["file_ids"][0]  # type: ignore[index]
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

    def say(self, track: RemoteTrack, packets: list[VoicePacket]) -> None:
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
