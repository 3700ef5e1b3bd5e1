"""Workers on real brokers, and the side of the service that they ask whether a job is theirs."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from offloader.backends.base import Backend, LaunchRequest
from offloader.backends.celery.app import celery_app, durable_queue
from offloader.backends.celery.board import Claim, LaunchBoard
from offloader.backends.celery.messages import LAUNCH_TASK, LaunchOrder, launch_queue
from offloader.backends.remote.client import RemoteBackend
from offloader.backends.remote.wire import is_door_key
from offloader.backends.stub import StubBackend
from offloader.bearer import bearer_token
from offloader.http_server import HttpServer
from offloader.models import JobType
from offloader.setting_celery import CelerySettings
from offloader.settings import load_settings
from offloader.store.secret_key import Cipher
from offloader.worker.running import RunningWorker, running_worker

KEY_TEXT = "k" * 32
CIPHER = Cipher(KEY_TEXT)
PATIENCE_S = 25.0
_STATUSES = {Claim.GRANTED: 200, Claim.TAKEN: 409, Claim.GONE: 410}


def listening() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(64)
    return sock


def url_of(sock: socket.socket) -> str:
    return f"http://127.0.0.1:{sock.getsockname()[1]}"


@asynccontextmanager
async def serving(app: Any, sock: socket.socket | None = None) -> AsyncIterator[str]:
    """Serve over real HTTP while the block runs; gives the URL."""
    sock = sock or listening()
    server = HttpServer(app)
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        yield url_of(sock)
    finally:
        server.should_exit = True
        await task


@dataclass
class Replica:
    """The launching side: whom it granted which job, and what it was told."""

    url: str = ""
    granted: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Job and worker of each claim."""
    outcomes: dict[str, Any] = field(default_factory=dict)
    refuse: int = 0
    """Status for every claim; 0: they are granted."""
    hold: asyncio.Event | None = None
    """Until it is set, claims are not answered."""
    board: LaunchBoard | None = None
    """Who grants; None: whatever is asked for first is granted."""

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/launches/{job_id}/{what}")
        async def told(job_id: str, what: str, request: Request) -> Response:
            assert is_door_key(CIPHER, bearer_token(request.headers["authorization"]))
            body = await request.json()
            if what == "outcome":
                self.outcomes[job_id] = body
                return JSONResponse({})
            if self.board is not None:
                claim = self.board.claim(job_id, **body)
                self.asked.append((job_id, body["worker"]))
                if self.hold is not None:
                    await self.hold.wait()
                return JSONResponse({}, status_code=_STATUSES[claim])
            self.asked.append((job_id, body["worker"]))
            if self.hold is not None:
                await self.hold.wait()
                return JSONResponse({}, status_code=503)
            mine = self.granted.setdefault(job_id, body["url"]) == body["url"]
            return JSONResponse({}, status_code=self.refuse or (200 if mine else 409))

        return app

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                await asyncio.sleep(0.02)


@pytest.fixture
async def replica() -> AsyncIterator[Replica]:
    replica = Replica()
    async with serving(replica.app()) as url:
        replica.url = url
        yield replica


class Publisher:
    """Sends launches as the service does."""

    def __init__(self, broker_url: str, claim_url: str) -> None:
        self._app = celery_app(CelerySettings(broker_url=broker_url), patience_s=5.0)
        self._claim_url = claim_url

    async def send(
        self, job_id: str, job_type: JobType = JobType.RECORDING, *, message_id: str = ""
    ) -> str:
        request = LaunchRequest(job_id, job_type, "runner", {"call_id": "c", "auth_token": "hush"})
        sealed = LaunchOrder.of(request, claim_url=self._claim_url).sealed(CIPHER, job_id)
        queue = durable_queue(launch_queue("calls", job_type))
        await self.send_raw(LAUNCH_TASK, queue, message_id, job_id=job_id, sealed=sealed)
        return sealed

    async def send_raw(self, task: str, queue: Any, message_id: str = "", **kwargs: Any) -> None:
        await asyncio.to_thread(
            self._app.send_task,
            task,
            kwargs=kwargs,
            queue=queue,
            task_id=message_id or secrets.token_hex(8),
            argsrepr="()",
            kwargsrepr="{}",
        )

    def ask(self, command: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        return self._app.control.broadcast(command, arguments, reply=True, timeout=1.0)

    def tell(self, command: str) -> None:
        self._app.control.broadcast(command)

    def send_body(self, queue: Any, text: str) -> None:
        """Something that no Celery wrote."""
        with self._app.producer_pool.acquire(block=True) as producer:
            producer.publish(
                text.encode(),
                routing_key=queue.routing_key,
                exchange=queue.exchange,
                declare=[queue],
                content_type="application/x-strange",
                content_encoding="binary",
            )

    def close(self) -> None:
        self._app.close()


@dataclass
class Site:
    """One worker with its door open."""

    worker: RunningWorker
    backend: Any
    door: RemoteBackend
    url: str


StartWorker = Callable[..., Awaitable[Site]]


@pytest.fixture
async def start_worker(tmp_path: Path) -> AsyncIterator[StartWorker]:
    """Starts workers with a stub backend; they end with the test, or earlier by `stack`."""
    async with AsyncExitStack() as ending:

        async def start(
            broker_url: str,
            *,
            name: str = "w1",
            slots: int = 2,
            backend: Backend | None = None,
            stack: AsyncExitStack = ending,
            **environ: str,
        ) -> Site:
            sock = listening()
            given = {
                "JOBS_CELERY_BROKERURL": broker_url,
                "JOBS_APITYPE": "celery",
                "WORKER_NAME": name,
                "WORKER_SLOTS": str(slots),
                "OFFLOADER_SECRET_KEY": KEY_TEXT,
                "STATE_DIRECTORY": str(tmp_path / "state"),
                **environ,
            }
            settings = load_settings(tmp_path / "none.toml", given)
            backend = backend or StubBackend()
            worker = await stack.enter_async_context(
                running_worker(settings, environ=given, url=url_of(sock), backend=backend)
            )
            url = await stack.enter_async_context(serving(worker.app, sock))
            stack.callback(worker.closing.set)
            door = RemoteBackend(url, cipher=CIPHER)
            stack.push_async_callback(door.aclose)
            return Site(worker, backend, door, url)

        yield start


@pytest.fixture
def publisher(replica: Replica) -> Any:
    made: list[Publisher] = []

    def make(broker_url: str) -> Publisher:
        made.append(Publisher(broker_url, replica.url))
        return made[-1]

    yield make
    for publisher in made:
        publisher.close()
