"""SfuServer: the media socket, the calls and the sessions, from start to stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from foundation.logs import get_logger
from rtc.certificates import CertificateSource
from rtc.ice.interfaces import local_addresses
from rtc.net.announced import Announced, Listening
from rtc.net.shared_port import SharedPort
from rtc.net.transport import IceTransport
from rtc.ntp import ntp_from_unix
from sfu.call import Call
from sfu.limits import Limits, Occupancy
from sfu.media_port import JoinError, SessionConfig, SessionOutlet, check_ids
from sfu.messages import RtcMessage
from sfu.metrics import SfuMetrics, Snapshot
from sfu.session import Session

_CLOSE_TIMEOUT_S = 5.0
_TICK_S = 0.1
_TURNS = 10


@dataclass(slots=True)
class _Running:
    session: Session
    task: asyncio.Task[None]


class MediaPort(Protocol):
    """The media port of this process, or its share of one: see `rtc.net.shared_port.SharedPort`."""

    udp_port: int
    tcp_port: int
    dropped_datagrams: int
    """That belong to nobody."""

    @property
    def unsendable(self) -> int:
        """That the kernel did not take."""

    @property
    def refused_flows(self) -> int:
        """TCP connections that did not say whose they are, or lied."""

    @property
    def tcp_queue_drops(self) -> int:
        """Datagrams whose TCP connection had too much to send already."""

    def open(
        self,
        announced: Sequence[Announced],
        *,
        udp_port: int,
        tcp_port: int,
        listening: Sequence[Listening] = (),
    ) -> None: ...

    def announce(self, announced: Sequence[Announced]) -> None: ...

    def create_transport(
        self,
        *,
        controlling: bool,
        on_data: Callable[[bytes], None],
        on_selected: Callable[[], None],
        on_lost: Callable[[str], None],
    ) -> IceTransport: ...

    def close(self) -> None: ...


class SfuServer:
    """All calls of this process. `start`, then joins; `close` in the end."""

    def __init__(
        self,
        *,
        announced: Callable[[], Awaitable[Sequence[Announced]]] | None = None,
        listening: Sequence[Listening] = (),
        bind_addresses: Sequence[str] = (),
        port: MediaPort | None = None,
        udp_port: int,
        tcp_port: int = 0,
        connect_timeout_s: float = 30.0,
        history_packets: int = 256,
        skip_hello_verify: bool = False,
        limits: Limits | None = None,
    ) -> None:
        """`announced` says which addresses clients are told, asked at the start and at joins.

        Without it these are `bind_addresses`, by default all of this host, at the ports that are bound.
        `port`: by default one of our own. `listening`: where to listen, by default at what stands behind
        the announced addresses.
        """
        self._listening = listening
        self._announced = announced or _plain(bind_addresses)
        self._ports = udp_port, tcp_port
        self._connect_timeout_s = connect_timeout_s
        self._history_packets = history_packets
        self._limits = limits or Limits()
        self._occupancy = Occupancy(self._limits)
        self._port = port or SharedPort(
            bounds=self._limits.ice(), tcp_queue_bytes=self._limits.tcp_queue_bytes
        )
        self._skip_hello_verify = skip_hello_verify
        self._certificates = CertificateSource(hello_verify=not skip_hello_verify)
        self.metrics = SfuMetrics()
        self._calls: dict[tuple[str, str], Call] = {}
        self._running: dict[str, _Running] = {}
        self._ticker: asyncio.Task[None] | None = None
        self._log = get_logger(component="sfu")

    @property
    def udp_port(self) -> int:
        """The bound media port, once started."""
        return self._port.udp_port

    @property
    def tcp_port(self) -> int:
        """The bound media port for TCP, once started."""
        return self._port.tcp_port

    async def start(self) -> None:
        """Open the media sockets.

        Raises:
            PortTaken: somebody else has a port.
        """
        udp_port, tcp_port = self._ports
        self._port.open(
            await self._announced(),
            udp_port=udp_port,
            tcp_port=tcp_port,
            listening=self._listening,
        )
        self._ticker = asyncio.create_task(self._tick(), name="sfu-ticker")

    async def close(self) -> None:
        """End all sessions, each with its last message, and free the sockets."""
        for running in list(self._running.values()):
            running.session.end("the SFU is shutting down")
        tasks = [running.task for running in self._running.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_TIMEOUT_S)
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.wait([self._ticker])
            self._ticker = None
        self._port.close()

    # MediaServer

    async def join(self, config: SessionConfig, send: SessionOutlet) -> None:
        check_ids(config)
        if config.session_id in self._running:
            raise JoinError("user session already exists")
        self._port.announce(await self._announced())
        if config.session_id in self._running:
            raise JoinError("user session already exists")
        known = self._calls.get((config.group_id, config.call_id))
        self._occupancy.enter(config.group_id, new_call=known is None)
        call = known or Call()
        try:
            session = self._session(config, call, send)
        except BaseException:
            self._occupancy.leave(config.group_id, call_over=known is None)
            raise
        if known is None:
            self._calls[(config.group_id, config.call_id)] = call
            self.metrics.call_opened(config.group_id)
        self.metrics.session_opened(config.group_id)
        call.sessions[config.session_id] = session
        task = asyncio.create_task(self._serve(session, call), name="session")
        self._running[config.session_id] = _Running(session, task)
        if self._skip_hello_verify:
            self._log.warning("dtls.hello_verify_skipped", session_id=config.session_id)
        self._log.info("session.joined", session_id=config.session_id, call_id=config.call_id)

    async def handle(self, session_id: str, message: RtcMessage) -> None:
        running = self._running.get(session_id)
        if running is None:
            self._log.info("message.unknown_session", session_id=session_id)
            return
        await running.session.handle(message)

    def rebind(self, session_id: str, send: SessionOutlet) -> bool:
        running = self._running.get(session_id)
        if running is None:
            return False
        running.session.bind(send)
        return True

    def session(self, session_id: str) -> SessionConfig | None:
        running = self._running.get(session_id)
        return running.session.config if running is not None else None

    def sessions(self, group_id: str, call_id: str) -> list[SessionConfig] | None:
        call = self._calls.get((group_id, call_id))
        return None if call is None else [s.config for s in call.sessions.values()]

    def end(self, session_id: str) -> None:
        """Begin to end a session; unknown ids are fine."""
        running = self._running.get(session_id)
        if running is not None:
            running.session.end("left")

    async def leave(self, session_id: str) -> None:
        running = self._running.get(session_id)
        if running is not None:
            running.session.end("left")
            await asyncio.wait([running.task], timeout=_CLOSE_TIMEOUT_S)

    def has_group(self, group_id: str) -> bool:
        return any(group == group_id for group, _ in self._calls)

    def session_count(self) -> int:
        return len(self._running)

    def missing_processes(self) -> int:
        return 0  # it is the one that is asked

    async def snapshots(self) -> Sequence[Snapshot]:
        dropped, port = "rtcd_rtc_datagrams_dropped_total", self._port
        self.metrics.total(dropped, "unknown", value=port.dropped_datagrams)
        self.metrics.total(dropped, "unsendable", value=port.unsendable)
        self.metrics.total(dropped, "tcp_queue", value=port.tcp_queue_drops)
        # Told from the start: a rise from nothing is none to who watches.
        self.metrics.add("rtcd_rtc_conn_states_total", "failed", amount=0)
        self.metrics.total("rtcd_rtc_processes", "serving", value=1)
        self.metrics.total("rtcd_rtc_processes", "missing", value=0)
        self.metrics.total("rtcd_rtc_connections_refused_total", value=port.refused_flows)
        return [self.metrics.snapshot()]

    def _session(self, config: SessionConfig, call: Call, send: SessionOutlet) -> Session:
        return Session(
            config,
            call=call,
            ice=lambda on_data, on_selected, on_lost: self._port.create_transport(
                controlling=False, on_data=on_data, on_selected=on_selected, on_lost=on_lost
            ),
            send=send,
            metrics=self.metrics,
            certificate=self._certificates.current(),
            connect_timeout_s=self._connect_timeout_s,
            history_packets=self._history_packets,
            limits=self._limits,
        )

    async def _serve(self, session: Session, call: Call) -> None:
        config = session.config
        reason = "failed"
        try:
            reason = await session.run()
        except Exception:  # noqa: BLE001 - one broken session must not end without its `close`
            self._log.exception("session.failed", session_id=config.session_id)
        finally:
            call.leave(config.session_id)
            self._occupancy.leave(config.group_id, call_over=not call.sessions)
            if not call.sessions:
                self._calls.pop((config.group_id, config.call_id), None)
                self.metrics.call_closed(config.group_id)
            self._running.pop(config.session_id, None)
            await session.close()
            self.metrics.session_closed(config.group_id)
            self._log.info("session.ended", session_id=config.session_id, reason=reason)

    async def _tick(self) -> None:
        """Every 100 ms feedback and NACKs for all, and reports for a tenth of the sessions."""
        turn = 0
        while True:
            await asyncio.sleep(_TICK_S)
            turn = (turn + 1) % _TURNS
            now_ns, now_ntp = time.monotonic_ns(), ntp_from_unix(time.time_ns())
            for index, running in enumerate(list(self._running.values())):
                try:
                    running.session.tick(now_ns)
                    if index % _TURNS == turn:
                        running.session.report(now_ns, now_ntp)
                except Exception:  # noqa: BLE001 - one session must not cost the others anything
                    # The reports of all others hang on this loop.
                    session_id = running.session.config.session_id
                    self._log.exception("session.tick_failed", session_id=session_id)
                    running.session.end("internal error")


def _plain(addresses: Sequence[str]) -> Callable[[], Awaitable[Sequence[Announced]]]:
    """Host candidates on both transports, as bound."""

    async def announced() -> Sequence[Announced]:
        hosts = list(addresses) or local_addresses()
        return [
            Announced(transport, host, 0, host) for transport in ("udp", "tcp") for host in hosts
        ]

    return announced
