"""Media spread over worker processes: calls, deaths, logs, figures, the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest

from rtc.errors import PortTaken
from rtc.net.announced import Announced, Listening
from sfu.media_port import JoinError, SessionConfig
from sfu.messages import Close, RtcMessage, RtcType
from sfu.metrics import SfuMetrics
from sfu.metrics_text import render
from sfu.workers import process
from sfu.workers.link import Link, LinkBroken
from sfu.workers.log_relay import RelayHandler, relay
from sfu.workers.pool import WorkerPool
from sfu.workers.process import WorkerFailed, WorkerProcess

HOST = "127.0.0.1"
LISTENING = [Listening("udp", HOST), Listening("tcp", HOST)]
SPEECH = bytes([0x08]) + b"speech" * 5


async def _loopback() -> list[Announced]:
    return [Announced(kind, HOST, 0, HOST) for kind in ("udp", "tcp")]


def make_pool(processes: int = 2, **options: Any) -> WorkerPool:
    defaults: dict[str, Any] = {
        "announced": _loopback,
        "listening": LISTENING,
        "udp_port": 0,
        "tcp_port": 0,
    }
    return WorkerPool(processes=processes, **(defaults | options))


@asynccontextmanager
async def running_pool(processes: int = 2, **options: Any) -> AsyncIterator[WorkerPool]:
    pool = make_pool(processes, **options)
    await pool.start()
    try:
        async with asyncio.timeout(25):
            yield pool
    finally:
        await pool.close()


@pytest.fixture(autouse=True)
def no_process_left() -> Any:
    before = set(children())
    yield
    deadline = time.monotonic() + 20
    while set(children()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert set(children()) <= before, "others of this process may have ended meanwhile"


def children() -> list[int]:
    """Live ones of this process: an orphan that it was given ends as a zombie."""
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in found if is_alive(int(pid))]


def _event(line: str) -> str:
    """Of a line of the log."""
    return next(word for word in re.findall(r"[\w.]+", line) if word.startswith("worker."))


def worker_of(pool: WorkerPool, session_id: str) -> WorkerProcess:
    return pool._sessions[session_id].worker


async def until(holds: Callable[[], object], *, within_s: float = 25) -> None:
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.01)


async def test_calls_are_spread_and_each_is_in_one_process(guest: Any) -> None:
    async with running_pool() as pool, AsyncExitStack() as stack:
        guests = [
            await stack.enter_async_context(guest(pool, f"{call}{number}", call=call))
            for number in range(2)
            for call in ("one", "two")
        ]
        workers = [worker_of(pool, g.session_id).number for g in guests]
        assert workers == [workers[0], workers[1]] * 2
        assert workers[0] != workers[1]
        for speaker in guests[:2]:
            await speaker.speak()
        async with asyncio.timeout(25):
            assert [await g.heard() for g in guests[2:]] == [g.session_id for g in guests[:2]]
        assert pool.session_count() == 4
        configs = pool.sessions("group", "one")
        assert configs is not None
        assert len(configs) == 2
        assert pool.sessions("group", "three") is None
        assert pool.has_group("group")
    assert not pool.has_group("group")
    assert pool.session_count() == 0


async def test_figures_of_all_processes_add_up(guest: Any) -> None:
    async with running_pool() as pool:
        async with guest(pool, "a", call="one"), guest(pool, "b", call="two"):
            text = render(await pool.snapshots()).decode()
            assert 'rtcd_rtc_processes{state="serving"} 2' in text
            assert 'rtcd_rtc_processes{state="missing"} 0' in text
            assert 'rtcd_rtc_sessions_total{groupID="group"} 2' in text
            assert 'rtcd_rtc_calls_total{groupID="group"} 2' in text


@pytest.mark.slow
async def test_counters_stay_when_the_worker_that_counted_is_gone(guest: Any) -> None:
    async with running_pool() as pool:

        async def counted(name: str) -> float:
            total = SfuMetrics()
            for snapshot in await pool.snapshots():
                total.merge(snapshot)
            return total.value(*name.split())

        async with guest(pool, "one") as one:
            assert await counted("rtcd_rtc_conn_states_total connected") == 1
            assert await counted("rtcd_rtc_sessions_total group") == 1
            worker_of(pool, one.session_id).kill()
            await one.closed.wait()
        await until(lambda: not pool.missing_processes())
        assert await counted("rtcd_rtc_conn_states_total connected") == 1
        assert await counted("rtcd_rtc_sessions_total group") == 0
        assert await counted("rtcd_rtc_processes_died_total") == 1


async def test_what_the_owner_turns_away_is_counted_beside_the_workers(guest: Any) -> None:
    async with running_pool() as pool, guest(pool, "one") as one:
        reader, writer = await asyncio.open_connection(HOST, pool.tcp_port)
        writer.write(b"\0\3abc")
        assert await reader.read() == b""
        writer.close()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(b"\x80" + bytes(20), (HOST, pool.udp_port))
        worker_of(pool, one.session_id).kill()
        await one.closed.wait()
        dropped = 'rtcd_rtc_datagrams_dropped_total{reason="unknown_worker"} 1'
        async with asyncio.timeout(25):
            while dropped not in render(await pool.snapshots()).decode():
                await asyncio.sleep(0.01)
        assert "rtcd_rtc_connections_refused_total 1" in render(await pool.snapshots()).decode()


async def test_a_worker_that_does_not_answer_is_counted_as_it_last_was(
    guest: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_pool(processes=1) as pool, guest(pool, "one") as one:
        worker = worker_of(pool, one.session_id)
        first = (await pool.snapshots())[1]
        monkeypatch.setattr("sfu.workers.pool.SNAPSHOT_TIMEOUT_S", 0.05)
        os.kill(worker._process.pid, signal.SIGSTOP)
        both = await asyncio.gather(pool.snapshots(), pool.snapshots())
        os.kill(worker._process.pid, signal.SIGCONT)
        assert [snapshots[1] for snapshots in both] == [first, first]


@pytest.mark.documents("a-media-process-that-died")
async def test_a_worker_that_dies_takes_its_own_calls_only(
    guest: Any, capsys: Any, documented: Any
) -> None:
    async with running_pool() as pool, AsyncExitStack() as stack:
        victim = await stack.enter_async_context(guest(pool, "victim", call="one"))
        other = await stack.enter_async_context(guest(pool, "other", call="two"))
        friend = await stack.enter_async_context(guest(pool, "friend", call="two"))
        dying = worker_of(pool, victim.session_id)
        os.kill(dying._process.pid, signal.SIGKILL)
        await asyncio.wait_for(victim.closed.wait(), 25)
        assert pool.sessions("group", "one") is None
        await other.speak()
        assert await asyncio.wait_for(friend.heard(), 25) == other.session_id
        assert not other.closed.is_set()
        # Until its successor serves, new calls go to the other one.
        async with guest(pool, "early", call="three") as early:
            assert worker_of(pool, early.session_id) is worker_of(pool, other.session_id)
        await until(lambda: len(pool._workers) == 2)
        async with guest(pool, "victim2", call="one") as again:
            assert worker_of(pool, again.session_id).number == dying.number
            assert worker_of(pool, again.session_id) is not dying
        assert pool.missing_processes() == 0
    captured = capsys.readouterr()
    [line] = [one for one in (captured.out + captured.err).splitlines() if "worker.died" in one]
    documented("a-media-process-that-died", _event(line))
    assert "-9" in line
    assert "sessions" in line


async def test_a_worker_that_hangs_in_the_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfu.workers.pool._END_TIMEOUT_S", 0.3)
    pool = make_pool()
    await pool.start()
    closed: list[object] = []
    await pool.join(SessionConfig("group", "call", "user", "session"), closed.append)
    hung = worker_of(pool, "session")
    os.kill(hung._process.pid, signal.SIGSTOP)
    await pool.close()
    assert hung._process.returncode == -signal.SIGKILL
    assert closed == [Close("session")]
    await pool.close()


@pytest.mark.slow
async def test_a_worker_that_reads_nothing_any_more_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sfu.workers.link._MAX_UNSENT_BYTES", 100_000)
    monkeypatch.setattr("sfu.workers.pool._DYING_S", 0.1)
    async with running_pool() as pool:
        closed = asyncio.Event()
        await pool.join(
            SessionConfig("group", "call", "user", "session"), lambda message: closed.set()
        )
        hung = worker_of(pool, "session")
        os.kill(hung._process.pid, signal.SIGSTOP)
        message = RtcMessage(RtcType.ICE, "session", bytes(10_000))
        for _ in range(200):
            await pool.handle("session", message)
        await asyncio.wait_for(closed.wait(), 25)
        await until(lambda: len(pool._workers) == 2)
        assert hung not in pool._workers.values()


@pytest.mark.documents("a-media-process-that-does-not-start")
async def test_a_worker_that_never_comes_up_fails_the_start_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, documented: Any
) -> None:
    silent = tmp_path / "python"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(silent))
    monkeypatch.setattr(process, "READY_TIMEOUT_S", 0.05)
    pool = make_pool()
    with pytest.raises(WorkerFailed) as failed:
        await pool.start()
    documented("a-media-process-that-does-not-start", str(failed.value))
    assert not pool._workers


@pytest.mark.parametrize(
    "executable",
    [
        pytest.param(
            "/bin/false", marks=pytest.mark.documents("a-media-process-that-does-not-start/2")
        ),
        pytest.param(
            "/nowhere/python", marks=pytest.mark.documents("a-media-process-that-does-not-start/3")
        ),
    ],
)
async def test_a_worker_that_cannot_run_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, executable: str, documented: Any
) -> None:
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr(process, "READY_TIMEOUT_S", 3600)  # it is not waited for
    pool = make_pool()
    with pytest.raises(WorkerFailed) as failed:
        await pool.start()
    documented.marked(str(failed.value))


@pytest.mark.slow
@pytest.mark.documents("a-media-process-that-died/2")
async def test_a_replacement_that_fails_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, documented: Any
) -> None:
    told = ""

    def failed() -> bool:
        nonlocal told
        told += capsys.readouterr().out
        return "worker.not_replaced" in told

    monkeypatch.setattr("sfu.workers.pool._RESTART_PAUSE_S", 0.05)
    async with running_pool() as pool:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", "/bin/false")
            os.kill(pool._workers[0]._process.pid, signal.SIGKILL)
            await until(failed)
        line = next(one for one in told.splitlines() if "not_replaced" in one)
        documented("a-media-process-that-died/2", _event(line))
        await until(lambda: 0 in pool._workers)


@pytest.mark.documents("no-media-process-is-left")
async def test_without_any_worker_a_join_is_refused(documented: Any) -> None:
    async with running_pool() as pool:
        for worker in list(pool._workers.values()):
            worker.kill()
        await until(lambda: not pool._workers)
        with pytest.raises(JoinError) as refused:
            await pool.join(SessionConfig("group", "call", "user", "session"), lambda _: None)
        documented("no-media-process-is-left", str(refused.value))
        assert pool.session_count() == 0
        assert pool.missing_processes() == 2
        text = render(await pool.snapshots()).decode()
        assert 'rtcd_rtc_processes{state="missing"} 2' in text


async def test_a_session_is_made_once_though_addresses_take_their_time() -> None:
    asked = asyncio.Event()
    go_on = asyncio.Event()

    async def slowly() -> Sequence[Announced]:
        if asked.is_set():
            await go_on.wait()
        asked.set()
        return await _loopback()

    async with running_pool(announced=slowly) as pool:
        config = SessionConfig("group", "call", "user", "session")
        joins = [asyncio.create_task(pool.join(config, lambda _: None)) for _ in range(2)]
        await asyncio.sleep(0.01)
        go_on.set()
        results = await asyncio.gather(*joins, return_exceptions=True)
        assert [str(r) for r in results if r] == ["user session already exists"]


async def test_changed_addresses_reach_all_workers(guest: Any) -> None:
    told = [await _loopback()]

    async def announced() -> Sequence[Announced]:
        return list(told[0])

    async with running_pool(announced=announced) as pool:
        told[0] = [Announced("udp", "203.0.113.9", 7777, HOST), *await _loopback()]
        for call in ("one", "two"):
            async with guest(pool, f"probe{call}", call=call) as probe:
                await until(lambda probe=probe: probe.candidates)
                assert "203.0.113.9 7777" in " ".join(probe.candidates)


async def test_signaling_goes_where_it_was_last_bound() -> None:
    async with running_pool() as pool:
        first: list[object] = []
        second: list[object] = []
        config = SessionConfig("group", "call", "user", "session")
        await pool.join(config, first.append)
        assert pool.rebind("session", second.append)
        assert not pool.rebind("nobody", second.append)
        assert pool.session("session") == config
        await pool.leave("session")
        await until(lambda: second)
        assert (first, second) == ([], [Close("session")])
        assert pool.session("session") is None
        await pool.leave("session")
        await pool.handle("session", RtcMessage(RtcType.MUTE, "session", b""))


@pytest.mark.documents("something-went-wrong-in-a-session/4")
async def test_an_outlet_that_fails_costs_nobody_else(
    guest: Any, capsys: Any, documented: Any
) -> None:
    told = ""

    def failed() -> bool:
        nonlocal told
        told += capsys.readouterr().out
        return "worker.message_failed" in told

    async with running_pool(processes=1) as pool:

        def broken(message: object) -> None:
            raise RuntimeError("a bug in the control side")

        await pool.join(SessionConfig("group", "one", "user", "broken"), broken)
        async with guest(pool, "fine") as fine:
            await pool.leave("broken")
            await until(failed)
            line = next(one for one in told.splitlines() if "message_failed" in one)
            documented("something-went-wrong-in-a-session/4", _event(line))
            assert not fine.closed.is_set()
        await until(lambda: pool.session_count() == 0)


async def test_a_second_server_cannot_take_the_port_of_the_first(guest: Any) -> None:
    async with running_pool(processes=1) as pool:
        other = make_pool(processes=1, udp_port=pool.udp_port)
        with pytest.raises(PortTaken, match=f"UDP {HOST}:{pool.udp_port} cannot be bound"):
            await other.start()
        assert len(children()) >= 1
        async with guest(pool, "fine"):
            pass


async def test_log_lines_of_workers_arrive_once_and_with_their_number(
    guest: Any, capsys: Any
) -> None:
    async with running_pool() as pool:
        async with guest(pool, "alice"):
            pass
    captured = capsys.readouterr()
    lines = (captured.out + captured.err).splitlines()
    for event in ("session.joined", "session.connected", "session.ended"):
        [line] = [line for line in lines if event in line]
        assert "worker=" in line
        assert "time=" not in line  # one time is enough


@pytest.mark.parametrize("field", [1 << 80, object(), "\ud800", b"bytes", None, {"a": 1}])
def test_whatever_is_logged_never_stops_who_logs(field: object, capsys: Any) -> None:
    sent: list[bytes] = []
    handler = RelayHandler(lambda line: sent.append(msgpack.packb(line)))
    record = logging.LogRecord("x", logging.INFO, "", 0, {"event": "e", "field": field}, None, None)
    handler.emit(record)
    for packed in sent:
        relay(msgpack.unpackb(packed), worker=1)


async def test_a_link_that_nobody_reads_is_given_up_instead_of_growing() -> None:
    ours, theirs = socket.socketpair()
    link = await Link.over(ours)
    sent = 0
    with contextlib.suppress(LinkBroken):
        while sent < 100:
            link.send({"t": "out", "data": bytes(1_000_000)})
            sent += 1
    assert sent < 20
    with pytest.raises(LinkBroken):
        link.send({})
    await link.finish()
    theirs.close()


async def test_an_owner_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(
        "import asyncio, os, sys\n"
        "from rtc.net.announced import Announced, Listening\n"
        "from sfu.workers.pool import WorkerPool\n"
        "async def announced():\n"
        "    return [Announced('udp', '127.0.0.1', 0, '127.0.0.1')]\n"
        "async def main():\n"
        "    pool = WorkerPool(processes=2, announced=announced,\n"
        "        listening=[Listening('udp', '127.0.0.1')], udp_port=0, tcp_port=0)\n"
        "    await pool.start()\n"
        "    print(*(w._process.pid for w in pool._workers.values()), flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    root = Path(__file__).parents[3]
    owner = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert owner.stdout is not None
    async with asyncio.timeout(25):
        line = b""
        while not line.strip().replace(b" ", b"").isdigit():
            line = await owner.stdout.readline()
            assert line
        workers = [int(pid) for pid in line.split()]
        owner.kill()
        await owner.wait()
        await owner.stdout.read()  # ends when the last process has closed it
    assert len(workers) == 2
    await until(lambda: not any(is_alive(pid) for pid in workers))


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
