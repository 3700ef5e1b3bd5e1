"""SfuServer: the media socket, the calls and the sessions, from start to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from foundation.logs import get_logger
from rtc.ice import local_addresses
from rtc.udp_mux import UdpMux
from sfu.call import Call
from sfu.media_port import JoinError, SessionConfig, SessionOutlet
from sfu.messages import RtcMessage
from sfu.session import Session

_CLOSE_TIMEOUT_S = 5.0


@dataclass(slots=True)
class _Running:
    session: Session
    task: asyncio.Task[None]


class SfuServer:
    """All calls of this process. `start`, then joins; `close` in the end."""

    def __init__(
        self, *, bind_addresses: Sequence[str], udp_port: int, connect_timeout_s: float = 30.0
    ) -> None:
        """`bind_addresses`: one address to listen on and to announce, or none for all of this host."""
        self._bind_addresses = list(bind_addresses)
        self._udp_port = udp_port
        self._connect_timeout_s = connect_timeout_s
        self._mux = UdpMux()
        self._calls: dict[tuple[str, str], Call] = {}
        self._running: dict[str, _Running] = {}
        self._log = get_logger(component="sfu")

    @property
    def udp_port(self) -> int:
        """The bound media port, once started."""
        return self._mux.port

    async def start(self) -> None:
        """Open the media socket.

        Raises:
            PortTaken: somebody else has the port.
        """
        if len(self._bind_addresses) == 1:
            bind, announced = self._bind_addresses[0], self._bind_addresses
        else:
            bind, announced = "0.0.0.0", self._bind_addresses or local_addresses()
        port = self._udp_port
        await self._mux.open(
            bind=bind, port=port, advertised=[(a, port) for a in announced] if port else None
        )

    async def close(self) -> None:
        """End all sessions, each with its last message, and free the socket."""
        for running in list(self._running.values()):
            running.session.end("the SFU is shutting down")
        tasks = [running.task for running in self._running.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_TIMEOUT_S)
        self._mux.close()

    # MediaServer

    async def join(self, config: SessionConfig, send: SessionOutlet) -> None:
        for name, value in (
            ("GroupID", config.group_id),
            ("CallID", config.call_id),
            ("UserID", config.user_id),
            ("SessionID", config.session_id),
        ):
            if not value:
                raise JoinError(f"invalid {name} value: should not be empty")
        if config.session_id in self._running:
            raise JoinError("user session already exists")
        call = self._calls.setdefault((config.group_id, config.call_id), Call())
        session = Session(
            config,
            call=call,
            ice=lambda on_data, on_lost: self._mux.create_transport(
                controlling=False, on_data=on_data, on_lost=on_lost
            ),
            send=send,
            connect_timeout_s=self._connect_timeout_s,
        )
        call.sessions[config.session_id] = session
        task = asyncio.create_task(self._serve(session, call), name="session")
        self._running[config.session_id] = _Running(session, task)
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

    async def leave(self, session_id: str) -> None:
        running = self._running.get(session_id)
        if running is not None:
            running.session.end("left")
            await asyncio.wait([running.task], timeout=_CLOSE_TIMEOUT_S)

    async def _serve(self, session: Session, call: Call) -> None:
        config = session.config
        reason = "failed"
        try:
            reason = await session.run()
        finally:
            call.leave(config.session_id)
            if not call.sessions:
                self._calls.pop((config.group_id, config.call_id), None)
            self._running.pop(config.session_id, None)
            await session.close()
            self._log.info("session.ended", session_id=config.session_id, reason=reason)
