"""Workers claim jobs by the key that they share with the service; nobody else is told anything."""

from __future__ import annotations

from dataclasses import dataclass, field

import httpx
import pytest
from fastapi import FastAPI

from offloader.api.errors import install_error_handlers
from offloader.api.launches import GivesJobsOut, launch_router
from offloader.backends.celery.board import LaunchBoard
from offloader.backends.stub import StubBackend
from offloader.models import Workload

KEY = "door-key"
JOB = "a" * 12
W1 = {"worker": "w1", "url": "http://w1:4546"}
W2 = {"worker": "w2", "url": "http://w2:4546"}


@dataclass
class Giver:
    board: LaunchBoard = field(default_factory=LaunchBoard)

    def opens(self, token: str) -> bool:
        return token == KEY


@pytest.fixture
def giver() -> Giver:
    return Giver()


@pytest.fixture
async def http(giver):
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(launch_router(giver))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://replica",
        headers={"Authorization": f"Bearer {KEY}"},
    ) as client:
        yield client


async def test_the_first_worker_gets_the_job(http, giver) -> None:
    with giver.board.open(JOB) as launch:
        answers = [
            (await http.post(f"/launches/{JOB}/claim", json=who)).status_code
            for who in (W1, W2, W1)
        ]
        assert answers == [200, 409, 200]
        assert (launch.worker, launch.url) == ("w1", "http://w1:4546")


async def test_a_job_that_nobody_launches_is_gone(http) -> None:
    answer = await http.post(f"/launches/{JOB}/claim", json=W1)
    assert (answer.status_code, answer.json()["code"]) == (410, "410")
    answer = await http.post(f"/launches/{JOB}/outcome", json={"error": "late"})
    assert answer.status_code == 410


@pytest.mark.parametrize(
    ("document", "outcome"),
    [
        ({"error": "no such image"}, "no such image"),
        (
            {"workload": {"backend": "process", "reference": {"directory": "/d"}}},
            Workload("process", {"directory": "/d"}),
        ),
    ],
)
async def test_the_worker_tells_what_became_of_it(http, giver, document, outcome) -> None:
    with giver.board.open(JOB) as launch:
        await http.post(f"/launches/{JOB}/claim", json=W1)
        assert (await http.post(f"/launches/{JOB}/outcome", json=document)).status_code == 200
        assert launch.outcome == outcome


@pytest.mark.parametrize("route", ["claim", "outcome"])
@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer other", f"Basic {KEY}", "Bearer \xe9", KEY]
)
async def test_without_the_key_nothing_is_told(http, giver, route: str, header) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    http.headers.pop("Authorization")
    with giver.board.open(JOB) as launch:
        for job_id in (JOB, "b" * 12):
            path = f"/launches/{job_id}/{route}"
            assert (await http.post(path, json=W1, headers=headers)).status_code == 401
        assert launch.worker == ""


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("claim", b"{"),
        ("claim", b"[]"),
        ("claim", b'{"worker": "w1"}'),
        ("claim", b'{"worker": "", "url": "u"}'),
        ("claim", b'{"worker": 1, "url": "u"}'),
        ("outcome", b"{}"),
        ("outcome", b'{"error": ""}'),
        ("outcome", b'{"workload": {"backend": "process"}}'),
    ],
)
async def test_what_cannot_be_read_is_refused(http, giver, route: str, body: bytes) -> None:
    with giver.board.open(JOB) as launch:
        answer = await http.post(f"/launches/{JOB}/{route}", content=body)
        assert answer.status_code == 400
        assert (launch.worker, launch.outcome) == ("", None)


async def test_other_backends_have_no_such_routes(running) -> None:
    assert not isinstance(StubBackend(), GivesJobsOut)
    answer = await running.http.post(f"/launches/{JOB}/claim", json=W1)
    assert answer.status_code == 404
