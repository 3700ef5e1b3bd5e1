"""Who is there: by broadcast and by their doors; silence counts only while the broker answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from offloader.backends.base import Places
from offloader.backends.celery.membership import Membership
from offloader.backends.remote.wire import WorkerCard
from offloader.errors import BackendError
from offloader.models import JobType

pytestmark = pytest.mark.looptime


class Hall:
    """The broker with whoever answers."""

    def __init__(self) -> None:
        self.cards: list[WorkerCard] = []
        self.down = False
        self.rounds = 0

    async def ask(self) -> Sequence[WorkerCard]:
        self.rounds += 1
        if self.down:
            raise BackendError("the broker redis://b cannot be used: refused")
        return self.cards


@pytest.fixture
async def enter() -> AsyncIterator[Callable[..., Any]]:
    made: list[Membership] = []

    def make(*cards: WorkerCard, labels: dict[JobType, str] | None = None) -> Any:
        hall = Hall()
        hall.cards = list(cards)
        made.append(Membership(hall.ask, labels=labels or {}))
        return hall, made[-1]

    yield make
    for members in made:
        await members.aclose()


async def test_a_worker_is_live_until_it_has_been_silent_for_twelve_seconds(
    enter, make_card
) -> None:
    hall, members = enter(make_card("w1"))
    await members.watched()
    hall.cards = []
    await asyncio.sleep(11.9)
    assert [card.name for card in members.live()] == ["w1"]
    await asyncio.sleep(0.2)
    assert members.live() == []
    assert members.workers() == {"w1": False}


async def test_workers_are_asked_every_three_seconds(enter) -> None:
    hall, members = enter()
    await members.watched()
    await asyncio.sleep(30.5)
    assert hall.rounds == 11


async def test_a_door_that_answers_keeps_its_worker_alive(enter, make_card) -> None:
    hall, members = enter(make_card("w1"))
    await members.watched()
    hall.cards = []
    for _ in range(10):
        await asyncio.sleep(5)
        members.heard("http://w1:4546")
    assert len(members.live()) == 1
    assert members.silent_s("http://w1:4546") < 5


async def test_silence_counts_only_while_the_broker_answers(enter, make_card) -> None:
    hall, members = enter(make_card("w1"))
    await members.watched()
    hall.down = True
    await asyncio.sleep(60)
    assert members.silent_s("http://w1:4546") == 0
    assert "refused" in members.fault
    hall.down, hall.cards = False, []
    await asyncio.sleep(4)  # heard of the broker again
    assert members.fault == ""
    assert 0 < members.silent_s("http://w1:4546") < 4.1
    await asyncio.sleep(12)
    assert members.silent_s("http://w1:4546") >= 12


async def test_a_worker_that_nobody_ever_heard_of_is_silent_since_the_start(enter) -> None:
    _, members = enter()
    await members.watched()
    await asyncio.sleep(10)
    assert members.silent_s("http://w9:4546") == pytest.approx(10, abs=0.1)
    assert members.unheard_s("http://w9:4546") is None


async def test_a_call_needs_a_place_for_its_recording_and_one_for_its_transcription(
    enter, make_card
) -> None:
    _, members = enter(
        make_card("w1", slots=3),
        make_card("w2", slots=4, only_labelled=True, labels=("gpu",)),
        make_card("w3", slots=9, draining=True),
        make_card("w4", slots=9, usable="no disk"),
        labels={JobType.TRANSCRIBING: "gpu"},
    )
    await members.watched()
    assert [card.name for card in members.takers(JobType.RECORDING)] == ["w1"]
    assert [card.name for card in members.takers(JobType.TRANSCRIBING)] == ["w2"]
    assert members.places() == Places(calls=3, hosts=2, least_disk_bytes=100)


@pytest.mark.parametrize(
    ("on_draining", "on_other", "calls"),
    [
        ((0, 0), (0, 0), 2),
        ((1, 1), (0, 0), 3),
        ((1, 0), (0, 1), 2),  # the other one has a place for one more transcription
        ((1, 0), (0, 0), 3),  # a call that is not transcribed
    ],
)
async def test_a_call_on_a_draining_worker_costs_the_others_no_place(
    enter, make_card, on_draining, on_other, calls
) -> None:
    def busy(name: str, running: tuple[int, int], **changes: bool) -> WorkerCard:
        recording, transcribing = running
        return make_card(name, recording=recording, transcribing=transcribing, **changes)

    _, members = enter(busy("w1", on_draining, draining=True), busy("w2", on_other))
    await members.watched()
    assert members.places().calls == calls


async def test_without_labels_every_place_counts_once(enter, make_card) -> None:
    _, members = enter(make_card("w1", slots=3), make_card("w2", slots=4, free_disk_bytes=7))
    await members.watched()
    assert members.places() == Places(calls=7, hosts=2, least_disk_bytes=7)
    assert members.obstacle() == ""


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        pytest.param(
            None,
            "no worker answers: start `offloader worker`",
            marks=pytest.mark.documents("no-worker-answers"),
        ),
        pytest.param(
            {"draining": True},
            "no worker takes recording jobs: w1 is draining",
            marks=pytest.mark.documents("all-workers-are-draining"),
        ),
        pytest.param(
            {"usable": "no disk"},
            "no worker takes recording jobs: w1 cannot: no disk",
            marks=pytest.mark.documents("no-worker-can"),
        ),
        ({"only_labelled": True, "labels": ("eu",)}, "w1 takes other jobs"),
    ],
)
async def test_why_no_worker_takes_a_job_is_said(
    enter, make_card, changes, text, documented
) -> None:
    _, members = enter(*([] if changes is None else [make_card("w1", **changes)]))
    await members.watched()
    assert text in members.obstacle()
    documented.marked(members.obstacle())


@pytest.mark.documents("a-label-that-no-worker-has")
async def test_a_label_that_no_worker_has_is_named(enter, make_card, documented) -> None:
    _, members = enter(make_card("w1"), labels={JobType.TRANSCRIBING: "gpu"})
    await members.watched()
    documented("a-label-that-no-worker-has", members.obstacle())
    assert members.places().calls == 0


async def test_a_worker_that_drained_and_ended_is_not_missed(enter, make_card, monkeypatch) -> None:
    monkeypatch.setattr("offloader.backends.celery.membership._REMEMBERED_S", 60.0)
    hall, members = enter(make_card("w1"), make_card("w2", draining=True))
    await members.watched()
    assert members.workers() == {"w1": True, "w2": True}
    hall.cards = []
    await asyncio.sleep(20)
    assert members.workers() == {"w1": False}
    await asyncio.sleep(60)
    assert members.workers() == {}


async def test_a_worker_that_came_back_elsewhere_is_found_by_its_name(enter, make_card) -> None:
    hall, members = enter(make_card("w1"))
    await members.watched()
    hall.cards = [make_card("w1", url="http://10.0.0.9:4546")]
    await asyncio.sleep(4)
    assert members.url_of("w1", "http://w1:4546") == "http://w1:4546"  # both are live still
    await asyncio.sleep(12)
    assert members.url_of("w1", "http://w1:4546") == "http://10.0.0.9:4546"
    assert members.url_of("w2", "http://w2:4546") == "http://w2:4546"
