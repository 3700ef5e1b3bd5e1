"""What ends a run, or keeps a participant out: told in words that say where to look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from sfu.loadtest import participant, signaling
from sfu.loadtest.negotiator import Negotiator
from sfu.loadtest.plan import LoadPlan
from sfu.loadtest.run import RunError, RunOptions, _Run
from sfu.loadtest.signaling import PluginConnection, SignalingError, register
from sfu.messages import Close, Hello, Leave, encode

KEY = "k" * 32


@pytest.mark.documents("a-load-test-that-finds-no-sfu/2")
async def test_an_sfu_that_registers_nobody_is_told_with_its_answer(documented: Any) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for status, body in (("200 OK", b'{"buildVersion": "v1"}'), ("500 Oh", b"store is gone")):
            head = await reader.readuntil(b"\r\n\r\n")
            if b"POST" in head:
                await reader.read(1000)
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
            )
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(SignalingError) as refused:
            await register(f"http://127.0.0.1:{port}", "plugin", KEY)
    documented("a-load-test-that-finds-no-sfu/2", str(refused.value))


Open = Callable[[bytes], Any]


@pytest.fixture
async def opened() -> AsyncIterator[Open]:
    """Connect to a server whose first frame this is, and which then hangs up."""
    async with asyncio.timeout(25):
        servers = []
        connections = []

        async def connect(greeting: bytes) -> PluginConnection:
            async def greet(socket: ServerConnection) -> None:
                await socket.send(greeting)

            server = await serve(greet, "127.0.0.1", 0)
            servers.append(server)
            port = server.sockets[0].getsockname()[1]
            connection = PluginConnection(
                f"http://127.0.0.1:{port}",
                client_id="plugin",
                auth_key=KEY,
                on_message=lambda message: None,
            )
            connections.append(connection)
            await connection.open()
            return connection

        yield connect
        for connection in connections:
            await connection.close()
        for server in servers:
            server.close()
            await server.wait_closed()


@pytest.mark.documents("a-load-test-that-finds-no-sfu/3")
async def test_whoever_does_not_greet_is_no_sfu(opened: Open, documented: Any) -> None:
    with pytest.raises(SignalingError) as refused:
        await opened(encode(Close("s1")))
    documented("a-load-test-that-finds-no-sfu/3", str(refused.value))


@pytest.mark.documents("a-load-test-that-loses-its-sfu/2", "a-load-test-that-loses-its-sfu/3")
async def test_an_sfu_that_hangs_up_or_reads_nothing_ends_the_run(
    opened: Open, documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signaling, "_CAPACITY", 1)
    connection = await opened(encode(Hello("plugin", "1")))
    connection.send(Leave("s1"))
    with pytest.raises(SignalingError) as full:
        connection.send(Leave("s2"))
    documented("a-load-test-that-loses-its-sfu/3", str(full.value))
    with pytest.raises(SignalingError) as closed:
        await connection.run()
    documented("a-load-test-that-loses-its-sfu/2", str(closed.value))


async def _nothing() -> str:
    return "an offer"


def _negotiator() -> Negotiator:
    histogram = SimpleNamespace(record=lambda value: None)
    shared = SimpleNamespace(
        timings={"lock": histogram, "renegotiation": histogram},
        plan=SimpleNamespace(dc_signaling=False),
        connection=SimpleNamespace(send=lambda message: None),
    )
    negotiation = SimpleNamespace(add_sender=lambda kind, media: "section")
    peer = SimpleNamespace(negotiation=negotiation, create_offer=_nothing)
    made: Any = Negotiator
    return made("s1", peer, shared, on_transport_cc=lambda number: None, on_answer=lambda: None)


@pytest.mark.looptime
@pytest.mark.documents(
    "a-load-test-that-nobody-could-join/2", "a-load-test-that-nobody-could-join/3"
)
async def test_a_participant_without_a_lock_or_an_answer_fails(documented: Any) -> None:
    negotiator = _negotiator()
    with pytest.raises(participant.ParticipantFailed) as no_lock:
        await negotiator.publish("audio", "voice")
    documented("a-load-test-that-nobody-could-join/3", str(no_lock.value))
    negotiator._lock_replies.offer(True)
    with pytest.raises(participant.ParticipantFailed) as no_answer:
        await negotiator.publish("audio", "voice")
    documented("a-load-test-that-nobody-could-join/2", str(no_answer.value))


@pytest.mark.documents("a-load-test-that-nobody-could-join/4")
def test_a_participant_whose_codec_is_not_taken_fails(documented: Any) -> None:
    section: Any = SimpleNamespace(payload_type=lambda codec: None)
    with pytest.raises(participant.ParticipantFailed) as refused:
        participant._payload_type(section, "opus")
    documented("a-load-test-that-nobody-could-join/4", str(refused.value))


def _run(**reports: Any) -> tuple[_Run, Any]:
    plan = LoadPlan(
        url="http://127.0.0.1:1",
        client_id="c",
        auth_key=KEY,
        call_prefix="call",
        session_prefix="s",
    )
    run = _Run(plan, RunOptions(), lambda text: None, None, None)
    stdin = SimpleNamespace(write=lambda data: None)
    worker: Any = SimpleNamespace(
        failure="", report=None, process=SimpleNamespace(returncode=None, stdin=stdin)
    )
    run._workers.append(worker)
    return run, worker


@pytest.mark.looptime
@pytest.mark.documents("a-load-test-whose-processes-fail", "a-load-test-whose-processes-fail/2")
async def test_a_process_that_does_not_answer_or_ends_fails_the_run(
    documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, worker = _run()
    with pytest.raises(RunError) as silent:
        await run._wait_for("start", -1, lambda worker: False)
    documented("a-load-test-whose-processes-fail", str(silent.value))
    worker.process.returncode = -9
    with pytest.raises(RunError) as ended:
        await run._wait_for("start", 1, lambda worker: False)
    documented("a-load-test-whose-processes-fail/2", str(ended.value))


@pytest.mark.documents("a-load-test-that-nobody-could-join")
async def test_a_run_that_nobody_could_join_says_what_the_first_one_met(
    documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, worker = _run()
    worker.report = {"failures": {"no data channel within 15 s": 2}}

    async def nothing(*_: object) -> Any:
        return worker

    for name in ("_start", "_wait_for", "_let_in", "_wait_until_settled", "_collect"):
        monkeypatch.setattr(run, name, nothing)
    monkeypatch.setattr(run, "_joined", lambda: 0)
    with pytest.raises(RunError) as error:
        await run.run()
    documented("a-load-test-that-nobody-could-join", str(error.value))
