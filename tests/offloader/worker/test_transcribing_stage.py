"""Owner and takers over real HTTP, with a broker in memory and a program that the test plays."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.datastructures import URL
from starlette.requests import Request

from offloader.backends.remote.door import install_door_errors
from offloader.backends.remote.wire import door_key
from offloader.errors import BackendError
from offloader.store.secret_key import Cipher
from offloader.worker import transcribing_owner, transcribing_state, transcribing_taker
from offloader.worker.lanes import Verdict
from offloader.worker.transcribing_client import OwnersDoor
from offloader.worker.transcribing_door import task_routes
from offloader.worker.transcribing_files import TrackFiles
from offloader.worker.transcribing_messages import TrackOffer
from offloader.worker.transcribing_owner import TrackOwner, job_token
from offloader.worker.transcribing_program import ProgramFailed
from offloader.worker.transcribing_taker import TrackTaker

JOB = "a-job-of-somebody"
CIPHER = Cipher("x" * 40)
KEY = door_key(CIPHER)


class Messages:
    """A broker: one message goes to one worker."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.away = False

    async def offer(self, job_id: str, track: str) -> None:
        if self.away:
            raise BackendError("the broker cannot be reached")
        await self.queue.put((job_id, track))


class Program:
    """Turns a bundle round; waits for `go`, fails when told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.begun = asyncio.Event()
        self.failure = ""
        self.runs = 0

    async def run(
        self, directory: Path, *, pieces: int, on_progress: Callable[[int], None]
    ) -> bytes:
        self.runs += 1
        self.begun.set()
        on_progress(1)
        await self.go.wait()
        if self.failure:
            raise ProgramFailed(self.failure)
        return (directory / "track.tar").read_bytes()[::-1]


class Site:
    """One owner's door on a free port of the loopback, and workers beside it."""

    def __init__(self, directory: Path, server: uvicorn.Server, owner: TrackOwner) -> None:
        self.directory = directory
        self.owner = owner
        self.messages = Messages()
        self.programs: dict[str, Program] = {}
        self.takers: dict[str, TrackTaker] = {}
        self._owners: list[OwnersDoor] = []
        port = server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    def worker(self, name: str) -> TrackTaker:
        owners = OwnersDoor(cipher=CIPHER, worker=name)
        self._owners.append(owners)
        self.programs[name] = Program()

        async def closed() -> None:
            return None

        self.takers[name] = TrackTaker(
            self.directory / name,
            slots=1,
            program=self.programs[name],
            owners=owners,
            cipher=CIPHER,
            changed=lambda: None,
            closed=closed,
        )
        return self.takers[name]

    def take(self, name: str, track: str = "voice-1") -> asyncio.Task[Verdict]:
        """That worker gets a message about the track."""
        sealed = TrackOffer(self.url, track).sealed(CIPHER, JOB)
        arguments = {"job_id": JOB, "sealed": sealed}
        return asyncio.create_task(self.takers[name].take("message", arguments))

    async def request(
        self, method: str, path: str, *, token: str = "", **options: object
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token or job_token(CIPHER, JOB)}"}
        async with httpx.AsyncClient(base_url=self.url, headers=headers) as http:
            return await http.request(method, path, **options)

    async def hand_in(self, sounds: dict[str, bytes]) -> httpx.Response:
        """As the job does."""
        for name, sound in sounds.items():
            for start in range(0, len(sound), 1000):
                part = sound[start : start + 1000]
                path = f"/tasks/{JOB}/{name}/audio?start={start}"
                assert (await self.request("PUT", path, content=part)).status_code == 200
        tracks = [{"name": name, "pieces": 3} for name in sounds]
        return await self.request("POST", f"/tasks/{JOB}", json={"tracks": tracks})

    async def states(self) -> dict[str, str]:
        answer = await self.request("GET", f"/tasks/{JOB}")
        return {track["name"]: track["state"] for track in answer.json()["tracks"]}

    async def aclose(self) -> None:
        for taker in self.takers.values():
            await taker.aclose()
        for owners in self._owners:
            await owners.aclose()


@pytest.fixture
async def site(
    tmp_path: Path, serve: Callable[[TrackOwner], Awaitable[uvicorn.Server]]
) -> AsyncIterator[Site]:
    async def offer(job_id: str, track: str) -> None:
        await made.messages.offer(job_id, track)

    owner = TrackOwner(tmp_path / "owned", cipher=CIPHER, offer=offer)
    made = Site(tmp_path, await serve(owner), owner)
    yield made
    await made.aclose()


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[TrackOwner], Awaitable[uvicorn.Server]]]:
    """`await serve(owner)`: its routes on a free port, up to the end of the test."""
    from fastapi import FastAPI

    running: list[tuple[uvicorn.Server, asyncio.Task[None]]] = []

    async def start(owner: TrackOwner) -> uvicorn.Server:
        app = FastAPI()
        install_door_errors(app)
        app.include_router(task_routes(owner))
        config = uvicorn.Config(app, port=0, log_config=None, lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve())
        running.append((server, serving))
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.01)
        return server

    yield start
    for server, serving in running:
        server.should_exit = True
        await serving


async def test_tracks_go_out_and_their_texts_come_back(site: Site) -> None:
    site.worker("near")
    site.worker("far")
    sounds = {"voice-1": b"abc" * 1000, "voice-2": b"xyz"}
    assert (await site.hand_in(sounds)).status_code == 200
    assert [await site.messages.queue.get() for _ in sounds] == [(JOB, "voice-1"), (JOB, "voice-2")]
    for program in site.programs.values():
        program.go.set()
    assert await site.take("near", "voice-1") is Verdict.DONE
    assert await site.take("far", "voice-2") is Verdict.DONE
    assert await site.states() == {"voice-1": "done", "voice-2": "done"}
    for name, sound in sounds.items():
        result = await site.request("GET", f"/tasks/{JOB}/{name}/result")
        assert result.content == sound[::-1]
    assert list(site.directory.glob("near/*")) == []  # no sound stays where it was transcribed
    assert (await site.request("DELETE", f"/tasks/{JOB}")).status_code == 200
    assert list(site.directory.glob("owned/*")) == []


async def test_a_second_message_about_a_track_runs_nothing(site: Site) -> None:
    site.worker("near")
    site.worker("far")
    await site.hand_in({"voice-1": b"abc"})
    first = site.take("near")
    await site.programs["near"].begun.wait()
    assert await site.take("far") is Verdict.DONE
    site.programs["near"].go.set()
    await first
    assert await site.take("far") is Verdict.DONE
    assert site.programs["far"].runs == 0


async def test_a_worker_without_room_gives_the_message_back(site: Site) -> None:
    site.worker("near")
    await site.hand_in({"voice-1": b"abc", "voice-2": b"abc"})
    first = site.take("near", "voice-1")
    await site.programs["near"].begun.wait()
    assert await site.take("near", "voice-2") is Verdict.NO_ROOM
    site.programs["near"].go.set()
    await first


async def test_a_lost_workers_track_is_redone_by_another(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.worker("near")
    site.worker("far")
    await site.hand_in({"voice-1": b"abc"})
    await site.messages.queue.get()
    site.take("near")  # and nothing is heard of it: the first beat is seconds away
    await site.programs["near"].begun.wait()
    monkeypatch.setattr(transcribing_state, "SILENT_S", -1.0)
    await site.owner.look_after()
    assert site.messages.queue.get_nowait() == (JOB, "voice-1")
    monkeypatch.undo()
    site.programs["far"].go.set()
    await site.take("far")
    assert await site.states() == {"voice-1": "done"}


async def test_a_worker_that_ends_gives_its_track_back_at_once(site: Site) -> None:
    taker = site.worker("near")
    await site.hand_in({"voice-1": b"abc"})
    await site.messages.queue.get()
    site.take("near")
    await site.programs["near"].begun.wait()
    await taker.aclose()
    assert await site.states() == {"voice-1": "waiting"}
    await site.owner.look_after()
    assert site.messages.queue.get_nowait() == (JOB, "voice-1")
    assert list(site.directory.glob("near/*")) == []


async def test_a_long_track_is_acknowledged_before_brokers_lose_patience(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcribing_taker, "_ACKNOWLEDGED_S", 0.0)
    taker = site.worker("near")
    await site.hand_in({"voice-1": b"abc"})
    assert await site.take("near") is Verdict.DONE
    assert not taker.has_room
    await site.programs["near"].begun.wait()
    site.programs["near"].go.set()
    await taker.until_idle()
    assert await site.states() == {"voice-1": "done"}


async def test_a_failure_is_told_and_the_next_worker_gets_it(site: Site) -> None:
    site.worker("near")
    site.worker("far")
    await site.hand_in({"voice-1": b"abc"})
    site.programs["near"].failure = "no model 'large'"
    for program in site.programs.values():
        program.go.set()
    await site.take("near")
    answer = await site.request("GET", f"/tasks/{JOB}")
    assert answer.json()["tracks"][0]["reason"] == "no model 'large'"
    await site.take("near")
    assert site.programs["near"].runs == 1
    await site.take("far")
    assert await site.states() == {"voice-1": "done"}


async def test_what_nobody_needs_any_more_is_given_up(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcribing_taker, "BEAT_S", 0.02)
    site.worker("near")
    await site.hand_in({"voice-1": b"abc"})
    taking = site.take("near")
    await site.programs["near"].begun.wait()
    await site.request("DELETE", f"/tasks/{JOB}")
    assert await taking is Verdict.DONE  # though its program never ended
    assert list(site.directory.glob("near/*")) == []


async def test_a_broker_that_is_away_is_told_at_once_and_leaves_nothing(site: Site) -> None:
    site.messages.away = True
    answer = await site.hand_in({"voice-1": b"abc"})
    assert answer.status_code == 503
    assert "broker" in answer.json()["error"]
    assert list(site.directory.glob("owned/*")) == []


async def test_a_restarted_owner_knows_its_tracks_and_forgets_half_of_one(
    site: Site, serve, tmp_path: Path
) -> None:
    await site.hand_in({"voice-1": b"abc"})
    (tmp_path / "owned" / "a-job-that-died").mkdir()
    again = TrackOwner(tmp_path / "owned", cipher=CIPHER, offer=site.messages.offer)
    await again.restore()
    await again.look_after()
    assert site.messages.queue.qsize() == 2
    _, tracks = await again.look(JOB, after=0, wait_s=0.0)
    assert [track["state"] for track in tracks] == ["waiting"]
    assert [path.name for path in (tmp_path / "owned").iterdir()] == [JOB]


async def test_a_job_that_does_not_ask_any_more_is_forgotten_with_its_sound(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.hand_in({"voice-1": b"abc"})
    monkeypatch.setattr(transcribing_owner, "_FORGOTTEN_S", -1.0)
    await site.owner.look_after()
    assert list(site.directory.glob("owned/*")) == []
    assert (await site.request("GET", f"/tasks/{JOB}")).status_code == 404


async def test_nothing_is_written_of_a_job_that_is_being_forgotten(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.hand_in({"voice-1": b"abc"})
    writing, removed = threading.Event(), threading.Event()
    append, remove = TrackFiles.append, TrackFiles.remove

    def append_late(files: TrackFiles, path: Path, part: bytes, *, start: int) -> int:
        writing.set()
        removed.wait(0.2)  # which it is not before the write has ended
        return append(files, path, part, start=start)

    def remove_and_tell(files: TrackFiles, job_id: str) -> None:
        remove(files, job_id)
        removed.set()

    monkeypatch.setattr(TrackFiles, "append", append_late)
    monkeypatch.setattr(TrackFiles, "remove", remove_and_tell)
    part = site.owner.result_part(JOB, "voice-1", b"text", claim="1" * 32, start=0, last=False)
    coming = asyncio.create_task(part)
    assert await asyncio.to_thread(writing.wait, 10)
    await site.owner.forget(JOB)
    await coming
    assert list(site.directory.glob("owned/*")) == []


async def test_a_look_waits_for_news(site: Site) -> None:
    site.worker("near")
    await site.hand_in({"voice-1": b"abc"})
    version = (await site.request("GET", f"/tasks/{JOB}")).json()["version"]
    path = f"/tasks/{JOB}?after={version}&wait_s=20"
    looking = asyncio.create_task(site.request("GET", path, timeout=25))
    taking = site.take("near")
    news = (await looking).json()
    assert news["tracks"][0]["state"] == "claimed"
    site.programs["near"].go.set()
    await taking


@pytest.mark.parametrize(
    ("method", "path", "token", "status"),
    [
        ("GET", f"/tasks/{JOB}", "nonsense", 401),
        ("GET", f"/tasks/{JOB}", job_token(CIPHER, "another-job-id"), 401),
        ("POST", f"/tasks/{JOB}/voice-1/claim", job_token(CIPHER, JOB), 401),
        ("GET", f"/tasks/{JOB}", job_token(CIPHER, JOB), 404),
        ("GET", f"/tasks/{JOB}", KEY, 404),
        ("GET", f"/tasks/{JOB}/voice-x/result", KEY, 400),
        ("GET", "/tasks/No_Job/voice-1/result", KEY, 400),
        ("PUT", f"/tasks/{JOB}/voice-1/audio?start=5", KEY, 409),
        ("POST", f"/tasks/{JOB}", KEY, 400),
        ("POST", f"/tasks/{JOB}/voice-1/withdraw", KEY, 404),
    ],
)
async def test_who_may_ask_for_what(
    site: Site, method: str, path: str, token: str, status: int
) -> None:
    assert (await site.request(method, path, token=token, content=b"[]")).status_code == status


async def test_tokens_are_for_the_path_that_is_served_whatever_the_host_header_says(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.hand_in({"voice-1": b"abc"})
    other = "another-job-of-them"
    # Where a URL is put together from that header, its path may be another one.
    told = URL(f"http://x/tasks/{other}/voice-1/audio")
    monkeypatch.setattr(Request, "url", property(lambda _request: told))
    path = f"/tasks/{JOB}/voice-1/audio"
    assert (await site.request("GET", path, token=job_token(CIPHER, other))).status_code == 401
    assert (await site.request("GET", path)).content == b"abc"


async def test_a_message_under_another_key_is_dropped(site: Site) -> None:
    taker = site.worker("near")
    sealed = TrackOffer(site.url, "voice-1").sealed(Cipher("y" * 40), JOB)
    assert await taker.take("message", {"job_id": JOB, "sealed": sealed}) is Verdict.DONE
    assert site.programs["near"].runs == 0
