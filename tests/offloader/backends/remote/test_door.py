"""What goes through a worker's door arrives as it was, errors included."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from offloader.backends.base import LaunchRequest, Observation, Phase, Rescued
from offloader.backends.remote.client import DoorUnreachable, RemoteBackend, trusted
from offloader.backends.remote.wire import (
    WireError,
    WorkerCard,
    door_key,
    observation_document,
    observation_of,
    seal,
    unseal,
    workload_of,
)
from offloader.backends.stub import StubBackend
from offloader.errors import BackendError, FilesGone, LaunchFailed, WorkloadBusy
from offloader.models import JobType, Workload
from offloader.settings import TlsSettings
from offloader.store.secret_key import Cipher
from testbed.certificates import make_certificates

CIPHER = Cipher("k" * 32)
JOB = "a" * 12


async def launched(backend: StubBackend, job_id: str = JOB) -> Workload:
    return await backend.launch(LaunchRequest(job_id, JobType.RECORDING, "runner", {}))


@pytest.mark.parametrize(
    "observation",
    [
        Observation(Phase.STARTING),
        Observation(Phase.LOST, detail="gone", unpublished=True),
        Observation(
            Phase.EXITED,
            exit_code=137,
            stopped_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
            detail="killed",
            usage={"total_cpu_s": 1.5},
        ),
    ],
)
def test_an_observation_survives_the_wire(observation: Observation) -> None:
    assert observation_of(observation_document(observation)) == observation


@pytest.mark.parametrize(
    "document",
    [
        None,
        {},
        {"backend": "stub"},
        {"backend": 1, "reference": {}},
        {"backend": "x", "reference": {"a": []}},
    ],
)
def test_what_is_no_workload_is_named(document: Any) -> None:
    with pytest.raises(WireError, match="workload"):
        workload_of(document)


def test_a_card_of_a_newer_worker_is_read_and_a_broken_one_named() -> None:
    card = WorkerCard("w", "http://w", "1", ("gpu",), 2, 1, 0, 1, False, 5, "", True)
    assert WorkerCard.of({**card.document(), "added_later": 1}) == card
    with pytest.raises(WireError, match="slots"):
        WorkerCard.of({**card.document(), "slots": "2"})


def test_what_is_sealed_opens_only_with_its_key_for_its_purpose() -> None:
    sealed = seal(CIPHER, {"AUTH_TOKEN": "hush"}, context=("variables", "one"))
    assert "hush" not in sealed
    assert unseal(CIPHER, sealed, context=("variables", "one")) == {"AUTH_TOKEN": "hush"}
    assert unseal(CIPHER, sealed, context=("variables", "other")) is None
    assert unseal(Cipher("x" * 32), sealed, context=("variables", "one")) is None
    for damaged in (sealed[:-4], "no base64 ü", ""):
        assert unseal(CIPHER, damaged, context=("variables", "one")) is None


def test_a_derived_key_is_the_same_everywhere_and_another_for_each_purpose() -> None:
    assert door_key(CIPHER) == door_key(Cipher("k" * 32)) != door_key(Cipher("x" * 32))
    assert CIPHER.derived_texts("other") != (door_key(CIPHER),)
    assert len(door_key(CIPHER)) >= 43


async def test_every_method_reaches_the_workers_backend(behind_a_door) -> None:
    backend = StubBackend(log=b"one\ntwo\n", files={"r/a.mp4": b"hello"})
    client, door = await behind_a_door(backend)
    workload = await launched(backend)
    assert await client.poll(workload) == Observation(Phase.RUNNING)
    await client.prepare(["a", "b"])
    await client.stop(workload, grace_s=1.5)
    await client.lower(workload)
    assert await client.adopt() == {JOB: workload}
    assert b"".join([chunk async for chunk in client.logs(workload)]) == b"one\ntwo\n"
    [artifact] = await client.artifacts(workload)
    assert [artifact] == await backend.artifacts(workload)
    read = client.read_artifact(workload, artifact.name, start=2)
    assert b"".join([chunk async for chunk in read]) == b"llo"
    wish = {"job_type": JobType.TRANSCRIBING, "variables": {"AUTH_TOKEN": "hüsh"}}
    assert (await client.salvage(workload, **wish)).reference["id"] == f"{JOB}/salvage-1"
    assert (await client.retranscribe(workload, **wish)).reference["id"] == f"{JOB}/again-1"
    assert (await client.card()).name == "w1"
    backend.exit(JOB)
    await client.remove(workload)
    assert backend.prepared == [["a", "b"]]
    assert (backend.stopped, backend.lowered, backend.removed) == ([(JOB, 1.5)], [JOB], [JOB])
    assert backend.salvaged == backend.retranscribed == [(JOB, {"AUTH_TOKEN": "hüsh"})]
    assert door.lowered == [workload]


async def test_many_are_polled_at_once_and_one_that_fails_spoils_no_other(behind_a_door) -> None:
    class Half(StubBackend):
        async def poll(self, workload: Workload) -> Observation:
            if workload.reference["id"] == "1":
                raise ValueError("hush")
            if int(str(workload.reference["id"])) % 2:
                raise BackendError("odd")
            return await super().poll(workload)

    backend = Half()
    client, _ = await behind_a_door(backend)
    workloads = [await launched(backend, str(number)) for number in range(1001)]
    found = await client.poll_many(workloads)
    assert [str(look) for look in found[3::2]] == ["odd"] * 499
    assert str(found[1]) == "internal error: ValueError: see the worker's log"
    assert found[::2] == [Observation(Phase.RUNNING)] * 501
    with pytest.raises(BackendError, match="odd"):
        await client.poll(workloads[3])


@pytest.mark.documents("a-worker-that-does-not-say-what-it-has/2")
async def test_which_jobs_there_are_is_not_said_while_one_is_launched(
    behind_a_door, monkeypatch: pytest.MonkeyPatch, documented: Any
) -> None:
    monkeypatch.setattr("offloader.backends.remote.door._LOOKS", 4)
    backend = StubBackend()
    client, door = await behind_a_door(backend)
    await launched(backend)
    door.launching_for_looks = 100
    with pytest.raises(BackendError) as caught:
        await client.adopt()
    documented("a-worker-that-does-not-say-what-it-has/2", str(caught.value))
    assert not isinstance(caught.value, DoorUnreachable | LaunchFailed)
    monkeypatch.setattr("offloader.backends.remote.door._LOOKS", 400)
    door.launching_for_looks = 3  # it ends while the question waits
    assert set(await client.adopt()) == {JOB}
    assert door.launching_for_looks == 0


async def test_a_log_is_followed_as_it_is_written_until_the_job_ends(behind_a_door) -> None:
    backend = StubBackend(log=b"one")
    client, _ = await behind_a_door(backend)
    workload = await launched(backend)
    following = client.follow(workload)
    assert await anext(following) == b"one"
    backend.log += b"two"
    assert await anext(following) == b"two"
    backend.exit(JOB)
    assert [chunk async for chunk in following] == []


@pytest.mark.parametrize(
    "error", [FilesGone("gone"), LaunchFailed("no"), WorkloadBusy("busy"), BackendError("oh")]
)
async def test_an_error_keeps_its_kind_and_text(behind_a_door, error: BackendError) -> None:
    class Failing(StubBackend):
        async def salvage(self, *_: Any, **__: Any) -> Workload:
            raise error

        async def artifacts(self, workload: Workload) -> Any:
            raise error

        async def read_artifact(self, *_: Any, **__: Any) -> Any:
            raise error
            yield b""

    client, _ = await behind_a_door(Failing())
    workload = Workload("stub", {"id": JOB})
    with pytest.raises(BackendError) as caught:
        await client.salvage(workload, job_type=JobType.RECORDING, variables={})
    assert (type(caught.value), str(caught.value)) == (type(error), str(error))
    with pytest.raises(BackendError, match=str(error)):
        await client.artifacts(workload)
    with pytest.raises(BackendError, match=str(error)):
        [chunk async for chunk in client.read_artifact(workload, "a")]


async def test_what_still_runs_is_not_removed(behind_a_door) -> None:
    backend = StubBackend()
    client, _ = await behind_a_door(backend)
    with pytest.raises(BackendError, match="still runs"):
        await client.remove(await launched(backend))


async def test_a_file_that_breaks_off_is_an_error_and_no_end(behind_a_door) -> None:
    class Breaking(StubBackend):
        async def read_artifact(self, *_: Any, **__: Any) -> Any:
            yield b"first"
            raise BackendError("the disk is gone")

    client, _ = await behind_a_door(Breaking())
    chunks = client.read_artifact(Workload("stub", {"id": JOB}), "a")
    assert await anext(chunks) == b"first"
    with pytest.raises(BackendError):
        await anext(chunks)


async def test_a_lost_hosts_job_is_rescued_under_its_own_id(behind_a_door) -> None:
    asked: list[Any] = []

    class Rescuing(StubBackend):
        async def rescue(self, workload: Workload, **wish: Any) -> Rescued:
            asked.append((workload, wish))
            return Rescued(Workload("stub", {"id": "here"}), Workload("stub", {"id": "here/1"}))

    client, _ = await behind_a_door(Rescuing())
    wish = {"job_type": JobType.RECORDING, "result": "r1", "variables": {"AUTH_TOKEN": "hush"}}
    for known in (Workload("stub", {"id": "there"}), Workload("other", {"id": "there"}), None):
        made = await client.rescue(known, job_id=JOB, **wish)
        assert (made.workload.reference["id"], made.attempt.reference["id"]) == ("here", "here/1")
    assert asked[0] == (Workload("stub", {"id": "there"}), wish)
    for workload, _ in asked[1:]:
        assert str(workload.reference["directory"]).endswith(f"/{JOB}")
    with pytest.raises(BackendError, match="job_id"):
        await client.rescue(None, job_id="../../etc", **wish)


@pytest.mark.documents("a-worker-that-does-not-understand-the-service/2")
async def test_a_workload_of_another_backend_is_refused(behind_a_door, documented: Any) -> None:
    client, _ = await behind_a_door(StubBackend())
    with pytest.raises(BackendError) as caught:
        await client.poll(Workload("docker", {"id": JOB}))
    documented("a-worker-that-does-not-understand-the-service/2", str(caught.value))


@pytest.mark.documents("a-worker-with-another-secret-key")
async def test_nobody_gets_in_without_the_key(behind_a_door, documented: Any) -> None:
    backend = StubBackend()
    client, door = await behind_a_door(backend, key_text="x" * 32)
    with pytest.raises(BackendError) as caught:
        await client.stop(await launched(backend), grace_s=0)
    documented("a-worker-with-another-secret-key", str(caught.value))
    async with httpx.AsyncClient(base_url=door.url) as stranger:
        for path in ("/worker", "/backend/adopt", "/no-such-route", "/healthz/../worker"):
            for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp4"}):
                answer = await stranger.post(path, headers=headers, json={})
                assert answer.status_code == 401, path
        assert (await stranger.get("/healthz")).json() == {"status": "ok"}
    assert backend.stopped == []


async def test_two_keys_in_one_request_are_none(behind_a_door) -> None:
    _, door = await behind_a_door(StubBackend())
    right = f"Bearer {door_key(CIPHER)}"
    async with httpx.AsyncClient(base_url=door.url) as http:
        assert (await http.get("/worker", headers={"Authorization": right})).status_code == 200
        for keys in ((right, "Bearer x"), ("Bearer x", right), (right, right)):
            answer = await http.get("/worker", headers=[("Authorization", key) for key in keys])
            assert answer.status_code == 400
            assert answer.json()["error"] == "header Authorization should be there once"


def entry(name: str, *values: Any) -> Any:
    """A row that says what it provokes."""
    return pytest.param(name, *values, marks=pytest.mark.documents(name), id=name)


OWN = b'"workload": {"backend": "stub", "reference": {"id": "a"}}'


@pytest.mark.parametrize(
    ("name", "path", "body"),
    [
        entry("a-worker-that-does-not-understand-the-service", "/backend/remove", b"{}"),
        entry("a-worker-that-does-not-understand-the-service/3", "/backend/prepare", b"{}"),
        entry(
            "a-worker-that-does-not-understand-the-service/4",
            "/backend/poll",
            b'{"workloads": 1}',
        ),
        entry(
            "a-worker-that-does-not-understand-the-service/5",
            "/backend/stop",
            b'{%s, "grace_s": -1}' % OWN,
        ),
        entry(
            "a-worker-that-does-not-understand-the-service/6",
            "/backend/logs",
            b'{%s, "tail_bytes": -1}' % OWN,
        ),
        entry(
            "a-worker-that-does-not-understand-the-service/7",
            "/backend/artifact",
            b'{%s, "name": 1}' % OWN,
        ),
        entry(
            "a-worker-that-does-not-understand-the-service/8",
            "/backend/salvage",
            b'{%s, "job_type": "singing"}' % OWN,
        ),
        entry("a-worker-that-does-not-understand-the-service/9", "/backend/poll", b"[]"),
        entry(
            "a-worker-with-another-secret-key/2",
            "/backend/salvage",
            b'{%s, "job_type": "recording"}' % OWN,
        ),
    ],
)
async def test_a_bad_request_is_named_and_changes_nothing(
    behind_a_door, name: str, path: str, body: bytes, documented: Any
) -> None:
    _, door = await behind_a_door(StubBackend())
    headers = {"Authorization": f"Bearer {door_key(CIPHER)}"}
    async with httpx.AsyncClient(base_url=door.url, headers=headers) as caller:
        answer = await caller.post(path, content=body)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    documented(name, answer.json()["error"])


@pytest.mark.documents("a-worker-that-cannot-be-reached")
async def test_nobody_at_the_door_is_told_apart_from_a_refusal(
    behind_a_door, documented: Any
) -> None:
    backend = StubBackend()
    client, door = await behind_a_door(backend)
    workload = await launched(backend)
    await door.close()
    with pytest.raises(DoorUnreachable) as caught:
        await client.poll(workload)
    documented("a-worker-that-cannot-be-reached", str(caught.value))
    with pytest.raises(DoorUnreachable):
        [chunk async for chunk in client.logs(workload)]


@pytest.mark.parametrize("reading", ["logs", "follow", "read_artifact"])
async def test_what_a_worker_that_ends_has_not_sent_is_missed(behind_a_door, reading: str) -> None:
    class Slow(StubBackend):
        async def logs(self, *_: Any, **__: Any) -> Any:
            yield b"first"
            await asyncio.Event().wait()

        follow = read_artifact = logs

    client, door = await behind_a_door(Slow())
    arguments = ["a"] if reading == "read_artifact" else []
    chunks = getattr(client, reading)(Workload("stub", {"id": JOB}), *arguments)
    assert await anext(chunks) == b"first"
    door.closing.set()
    with pytest.raises(BackendError):
        await anext(chunks)


@pytest.mark.documents("an-authority-of-workers-that-cannot-be-read")
def test_an_authority_that_cannot_be_read_is_named(tmp_path: Path, documented: Any) -> None:
    with pytest.raises(BackendError) as caught:
        trusted(tmp_path / "none.pem")
    documented("an-authority-of-workers-that-cannot-be-read", str(caught.value))


@pytest.mark.documents(
    "a-worker-that-cannot-be-reached/4",
    "too-many-ask-a-worker",
    "a-workers-answer-that-is-none",
    "a-workers-answer-that-is-none/2",
    "a-workers-answer-that-is-none/3",
)
async def test_what_is_no_answer_of_a_worker_is_named(documented: Any) -> None:
    waiting: list[Any] = []

    def answers(_request: httpx.Request) -> httpx.Response:
        answer = waiting.pop()
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(200, json=answer)

    client = RemoteBackend("http://w1:4546", cipher=CIPHER)
    workload = Workload("stub", {"id": JOB})
    async with httpx.AsyncClient(
        base_url="http://w1:4546", transport=httpx.MockTransport(answers)
    ) as mocked:
        for name, answer, ask in (
            ("a-worker-that-cannot-be-reached/4", httpx.ReadTimeout(""), client.poll),
            ("too-many-ask-a-worker", httpx.PoolTimeout(""), client.poll),
            ("a-workers-answer-that-is-none", [], client.poll),
            ("a-workers-answer-that-is-none/2", {"observations": [{}]}, client.poll),
            ("a-workers-answer-that-is-none/3", {"artifacts": [{}]}, client.artifacts),
        ):
            waiting.append(answer)
            real, client._http = client._http, mocked
            with pytest.raises(BackendError) as caught:
                await ask(workload)
            client._http = real
            documented(name, str(caught.value))
    await client.aclose()


async def test_a_private_authority_is_trusted_where_it_is_named(
    behind_a_door, tmp_path: Path
) -> None:
    made = make_certificates(tmp_path / "ca", address="127.0.0.1")
    tls = TlsSettings(True, str(made.certificate), str(made.key))
    backend = StubBackend()
    workload = await launched(backend)
    for trust, wanted in ((trusted(made.ca), True), (trusted(None), False)):
        client, _ = await behind_a_door(backend, tls=tls, trust=trust)
        if wanted:
            assert (await client.poll(workload)).phase is Phase.RUNNING
        else:
            with pytest.raises(DoorUnreachable, match="certificate"):
                await client.poll(workload)


@pytest.mark.documents("a-worker-that-cannot-be-reached/2")
@pytest.mark.looptime
async def test_a_host_that_hangs_is_noticed_as_soon_when_a_log_is_asked_for(
    documented: Any,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:  # connects, and nobody accepts
        client = RemoteBackend(f"http://127.0.0.1:{listening.getsockname()[1]}", cipher=CIPHER)
        loop = asyncio.get_running_loop()
        for reading in (client.logs, client.follow):
            began_s = loop.time()
            with pytest.raises(DoorUnreachable) as caught:
                [chunk async for chunk in reading(Workload("stub", {"id": JOB}))]
            documented("a-worker-that-cannot-be-reached/2", str(caught.value))
            assert loop.time() - began_s < 10
        await client.aclose()


@pytest.mark.parametrize("keys", [("n" * 32, "k" * 32), ("k" * 32, "n" * 32)])
async def test_a_service_and_a_worker_with_one_key_in_common_work_together(
    behind_a_door, keys: tuple[str, ...]
) -> None:
    backend = StubBackend()
    _, door = await behind_a_door(backend)
    client = RemoteBackend(door.url, cipher=Cipher(*keys))
    try:
        assert (await client.card()).name == "w1"
        workload = await launched(backend)
        await client.salvage(workload, job_type=JobType.RECORDING, variables={"AUTH_TOKEN": "hush"})
    finally:
        await client.aclose()
