"""The owner's side: one media port, many processes. Implements `MediaServer` for the control side."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from foundation.groups import unwrapped
from foundation.logs import get_logger
from rtc.net.announced import Announced, Listening
from rtc.net.doorman import Doorman
from sfu.limits import Limits, Occupancy
from sfu.media_port import JoinError, SessionConfig, SessionOutlet, check_ids
from sfu.messages import Close, RtcMessage
from sfu.metrics import SfuMetrics, Snapshot
from sfu.workers.link import Message, pack_config, pack_rtc, unpack_outgoing
from sfu.workers.process import WorkerFailed, WorkerProcess

SNAPSHOT_TIMEOUT_S = 2.0
_END_TIMEOUT_S = 10.0
_DYING_S = 1.0
_RESTART_PAUSE_S = 1.0


@dataclass(slots=True)
class _Session:
    config: SessionConfig
    worker: WorkerProcess
    outlet: SessionOutlet


@dataclass(slots=True)
class _Call:
    worker: WorkerProcess
    sessions: dict[str, SessionConfig] = field(default_factory=dict)


class WorkerPool:
    """`start`, then joins; `close` in the end. A call lives in one worker, chosen at its first join."""

    def __init__(
        self,
        *,
        processes: int,
        announced: Callable[[], Awaitable[Sequence[Announced]]],
        listening: Sequence[Listening],
        udp_port: int,
        tcp_port: int,
        history_packets: int = 256,
        skip_hello_verify: bool = False,
        log_level: str = "info",
        limits: Limits | None = None,
    ) -> None:
        limits = limits or Limits()
        self._processes = processes
        self._announced = announced
        self._listening = listening
        self._ports = udp_port, tcp_port
        self._options = {
            "history_packets": history_packets,
            "skip_hello_verify": skip_hello_verify,
            "log_level": log_level,
            "limits": limits.pack(),
        }
        self._occupancy = Occupancy(limits)
        self._doorman = Doorman()
        self._workers: dict[int, WorkerProcess] = {}
        self._sessions: dict[str, _Session] = {}
        self._calls: dict[tuple[str, str], _Call] = {}
        self._told: Sequence[Announced] = ()
        self._asked: dict[WorkerProcess, asyncio.Future[None]] = {}
        """Whose snapshot is waited for."""
        self._past = SfuMetrics()
        """What workers had counted that died: counters must never go back."""
        self._ending = False
        self._owners: dict[int, asyncio.Task[None]] = {}
        self._log = get_logger(component="workers")

    @property
    def udp_port(self) -> int:
        return self._doorman.udp_port

    @property
    def tcp_port(self) -> int:
        return self._doorman.tcp_port

    async def start(self) -> None:
        """Open the media port and start all workers.

        Raises:
            PortTaken: somebody else has a port.
            WorkerFailed: a worker did not come up.
        """
        self._told = await self._announced()
        self._doorman.open(self._listening, udp_port=self._ports[0], tcp_port=self._ports[1])
        try:
            with unwrapped(WorkerFailed):
                async with asyncio.TaskGroup() as launches:
                    for number in range(self._processes):
                        launches.create_task(self._launch(number))
        except BaseException:
            await self.close()
            raise
        for number, worker in self._workers.items():
            self._owners[number] = asyncio.create_task(
                self._own(worker), name=f"sfu-worker-{number}"
            )
        self._log.info("workers.started", processes=self._processes)

    async def close(self) -> None:
        """End all sessions and workers; idempotent."""
        self._ending = True
        for worker in self._workers.values():
            worker.send({"t": "end"})
            if worker.number not in self._owners:  # another one did not come up at the start
                worker.kill()
                await worker.end(grace_s=_DYING_S)
        for number, owner in self._owners.items():
            if number not in self._workers:
                owner.cancel()
        if self._owners:
            _, slow = await asyncio.wait(self._owners.values(), timeout=_END_TIMEOUT_S)
            for worker in self._workers.values():
                worker.kill()
            if slow:
                await asyncio.wait(slow)
        self._owners.clear()
        self._workers.clear()
        self._doorman.close()

    # MediaServer

    async def join(self, config: SessionConfig, send: SessionOutlet) -> None:
        check_ids(config)
        self._check_free(config.session_id)
        told = await self._announced()
        self._check_free(config.session_id)
        if told != self._told:
            self._told = told
            for worker in self._workers.values():
                worker.send({"t": "announced", "announced": _entries(told)})
        key = (config.group_id, config.call_id)
        call = self._calls.get(key)
        worker = self._least_loaded() if call is None else call.worker
        self._occupancy.enter(config.group_id, new_call=call is None)
        if call is None:
            call = self._calls[key] = _Call(worker)
        call.sessions[config.session_id] = config
        call.worker.sessions.add(config.session_id)
        self._sessions[config.session_id] = _Session(config, call.worker, send)
        call.worker.send({"t": "join", "config": pack_config(config)})

    async def handle(self, session_id: str, message: RtcMessage) -> None:
        session = self._sessions.get(session_id)
        if session is None:
            self._log.info("message.unknown_session", session_id=session_id)
            return
        session.worker.send({"t": "rtc", "message": pack_rtc(message)})

    def rebind(self, session_id: str, send: SessionOutlet) -> bool:
        session = self._sessions.get(session_id)
        if session is None:
            return False
        session.outlet = send
        return True

    def session(self, session_id: str) -> SessionConfig | None:
        session = self._sessions.get(session_id)
        return None if session is None else session.config

    def sessions(self, group_id: str, call_id: str) -> list[SessionConfig] | None:
        call = self._calls.get((group_id, call_id))
        return None if call is None else list(call.sessions.values())

    async def leave(self, session_id: str) -> None:
        session = self._sessions.get(session_id)
        if session is not None:
            session.worker.send({"t": "leave", "session": session_id})

    def has_group(self, group_id: str) -> bool:
        return any(group == group_id for group, _ in self._calls)

    def session_count(self) -> int:
        return len(self._sessions)

    def missing_processes(self) -> int:
        return self._processes - len(self._workers)

    async def snapshots(self) -> Sequence[Snapshot]:
        """The owner's, then one of each worker: its last one if it does not answer in time."""
        await asyncio.gather(*(self._ask_snapshot(worker) for worker in self._workers.values()))
        own, doorman = SfuMetrics(), self._doorman
        own.merge(self._past.snapshot())
        dropped = "rtcd_rtc_datagrams_dropped_total"
        own.add(dropped, "unknown_worker", amount=doorman.dropped_datagrams)
        own.add(dropped, "not_handed_over", amount=doorman.not_handed_over)
        own.add("rtcd_rtc_connections_refused_total", amount=doorman.refused_flows)
        own.add("rtcd_rtc_processes", "missing", amount=self.missing_processes())
        # Told from the start: a rise from nothing is none to who watches.
        own.add("rtcd_rtc_processes_died_total", amount=0)
        own.add("rtcd_rtc_conn_states_total", "failed", amount=0)
        known = [worker.snapshot for worker in self._workers.values()]
        return [own.snapshot(), *(one for one in known if one is not None)]

    # workers

    async def _launch(self, number: int) -> WorkerProcess:
        """Raises WorkerFailed."""
        told = self._told
        worker = await WorkerProcess.launch(
            number,
            udp_sockets=self._doorman.udp_sockets,
            start={
                "t": "start",
                "announced": _entries(told),
                "tcp_port": self._doorman.tcp_port,
                **self._options,
            },
            serve=lambda sender: self._doorman.serve(number, sender),
        )
        if told is not self._told:  # they changed meanwhile
            worker.send({"t": "announced", "announced": _entries(self._told)})
        self._workers[number] = worker
        return worker

    async def _own(self, worker: WorkerProcess) -> None:
        """Until the end of the pool: serve one worker, and whoever replaces it."""
        number = worker.number
        while True:
            await self._serve(worker)
            if self._ending:
                return
            while number not in self._workers:
                await asyncio.sleep(_RESTART_PAUSE_S)
                try:
                    worker = await self._launch(number)
                except WorkerFailed as error:
                    self._log.error("worker.not_replaced", number=number, reason=str(error))

    async def _serve(self, worker: WorkerProcess) -> None:
        """Until it is gone: it takes its calls along, their clients are told, and join anew."""
        async for message in worker.messages():
            try:
                self._take(worker, message)
            except Exception as error:  # noqa: BLE001 - the other sessions of the worker go on
                self._log.error("worker.message_failed", t=message["t"], error=type(error).__name__)
        del self._workers[worker.number]
        if worker.snapshot is not None:
            self._past.merge(worker.snapshot, gauges=False)
        self._snapshot_told(worker)
        self._doorman.dismiss(worker.number)
        cut = list(worker.sessions)
        for session_id in cut:
            self._session_closed(session_id)
        code = await worker.end(grace_s=_DYING_S)
        if not self._ending:
            self._past.add("rtcd_rtc_processes_died_total")
            self._log.error("worker.died", number=worker.number, code=code, sessions=len(cut))

    def _take(self, worker: WorkerProcess, message: Message) -> None:
        match message["t"]:
            case "out":
                self._pass_on(message["session"], message["message"])
            case "snapshot":
                worker.snapshot = message["snapshot"]
                self._snapshot_told(worker)

    def _pass_on(self, session_id: str, packed: list[Any]) -> None:
        session = self._sessions.get(session_id)
        if session is None:
            return
        message = unpack_outgoing(packed)
        if isinstance(message, Close):
            self._session_closed(session_id)
        else:
            session.outlet(message)

    def _session_closed(self, session_id: str) -> None:
        session = self._sessions.pop(session_id)
        session.worker.sessions.discard(session_id)
        key = (session.config.group_id, session.config.call_id)
        call = self._calls[key]
        del call.sessions[session_id]
        self._occupancy.leave(session.config.group_id, call_over=not call.sessions)
        if not call.sessions:
            del self._calls[key]
        session.outlet(Close(session_id=session_id))

    def _check_free(self, session_id: str) -> None:
        if session_id in self._sessions:
            raise JoinError("user session already exists")

    def _least_loaded(self) -> WorkerProcess:
        if not self._workers or self._ending:
            raise JoinError("no media process is running")
        return min(self._workers.values(), key=lambda worker: len(worker.sessions))

    async def _ask_snapshot(self, worker: WorkerProcess) -> None:
        """Until it has told its newest, or is gone, or has taken too long; once for all who ask meanwhile."""
        waiting = self._asked.get(worker)
        if waiting is None:
            waiting = self._asked[worker] = asyncio.get_running_loop().create_future()
            worker.send({"t": "snapshot"})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SNAPSHOT_TIMEOUT_S):
                await asyncio.shield(waiting)
                return
        self._snapshot_told(worker)  # the next one asks anew

    def _snapshot_told(self, worker: WorkerProcess) -> None:
        waiting = self._asked.pop(worker, None)
        if waiting is not None:
            waiting.set_result(None)


def _entries(announced: Sequence[Announced]) -> list[list[Any]]:
    return [[a.transport, a.host, a.port, a.bind_host] for a in announced]
