"""DoubleServer: calls, sessions and puppets, from start to stop. Its methods are those of sfu.media_port."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from foundation.identifiers import new_id
from foundation.logs import get_logger
from sfu.media_port import JoinError, SessionConfig, SessionOutlet
from sfu.messages import RtcMessage
from testbed.rtcd_double.book import Book
from testbed.rtcd_double.call import Call
from testbed.rtcd_double.peering import MediaSocket
from testbed.rtcd_double.puppet import Puppet
from testbed.rtcd_double.script import Script
from testbed.rtcd_double.session import Session

_CLOSE_TIMEOUT_S = 5.0


@dataclass(slots=True)
class _Running:
    session: Session
    call: Call
    task: asyncio.Task[None]


class DoubleServer:
    """All calls of one double. `start`, then joins and puppets; `close` in the end."""

    def __init__(
        self,
        script: Script | None = None,
        *,
        address: str | None = "127.0.0.1",
        udp_port: int = 0,
        connect_timeout_s: float = 30.0,
    ) -> None:
        """`address` None: all of this host. `udp_port`: TCP listens on the same; 0: free ones."""
        self.script = script or Script()
        self.books: dict[str, Book] = {}
        """By session id; they stay after the session."""
        self.plugins: set[Callable[[], None]] = set()
        """Each ends one connection of a plugin."""
        self._address = address
        self._udp_port = udp_port
        self._connect_timeout_s = connect_timeout_s
        self._socket = MediaSocket()
        self._calls: dict[tuple[str, str], Call] = {}
        self._running: dict[str, _Running] = {}
        self._log = get_logger(component="rtcd-double")

    @property
    def udp_port(self) -> int:
        return self._socket.udp_port

    async def start(self) -> None:
        """Open the media ports. Raises PortTaken."""
        self._socket.open(
            address=self._address,
            port=self._udp_port,
            udp=self.script.announces_udp,
            tcp=self.script.announces_tcp,
        )

    async def close(self) -> None:
        """End all sessions and free the socket."""
        for running in self._running.values():
            running.session.end("the double is shutting down")
        tasks = [running.task for running in self._running.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_TIMEOUT_S)
        self._socket.close()

    def puppet(self, name: str, *, group: str = "group", call: str = "call") -> Puppet:
        """A participant that a test moves; its session id begins with `name`."""
        session_id = (name + new_id())[:26]
        config = SessionConfig(group, call, f"user-{name}", session_id)
        room = self._call(config)
        puppet = Puppet(config, room, self.script)
        room.participants[session_id] = puppet
        return puppet

    def switch_layer(self, session_id: str) -> None:
        """Change a receiver's simulcast layer without waiting for its feedback."""
        self._running[session_id].session.switch_layer()

    def cut_plugins_off(self) -> None:
        """Close every `/ws` connection; sessions go on."""
        for close in list(self.plugins):
            close()

    # what the plugin wants

    async def join(self, config: SessionConfig, send: SessionOutlet) -> None:
        missing = next(
            (
                name
                for name, value in (
                    ("GroupID", config.group_id),
                    ("CallID", config.call_id),
                    ("UserID", config.user_id),
                    ("SessionID", config.session_id),
                )
                if not value
            ),
            None,
        )
        if missing is not None:
            self._fail_join(f"invalid {missing} value: should not be empty")
            return
        if config.session_id in self._running:
            self._fail_join("user session already exists")
            return
        if self.script.fails_joins:
            self._fail_join("the host override does not resolve")
            return
        call = self._call(config)
        session = Session(
            config,
            call=call,
            script=self.script,
            socket=self._socket,
            send=send,
            connect_timeout_s=self._connect_timeout_s,
        )
        self.books[config.session_id] = session.book
        call.participants[config.session_id] = call.receivers[config.session_id] = session
        task = asyncio.create_task(self._serve(session, call), name="double-session")
        self._running[config.session_id] = _Running(session, call, task)

    async def handle(self, session_id: str, message: RtcMessage) -> None:
        running = self._running.get(session_id)
        if running is not None:
            running.session.handle(message)

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
        return None if call is None else [p.config for p in call.participants.values()]

    async def leave(self, session_id: str) -> None:
        running = self._running.get(session_id)
        if running is not None:
            running.session.end("left")
            await asyncio.wait([running.task], timeout=_CLOSE_TIMEOUT_S)

    # internals

    def _call(self, config: SessionConfig) -> Call:
        key = (config.group_id, config.call_id)
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = Call(self.script)
        return call

    def _fail_join(self, reason: str) -> None:
        self._log.warning("join.failed", reason=reason)
        if not self.script.hides_failed_joins:
            raise JoinError(reason)

    async def _serve(self, session: Session, call: Call) -> None:
        config = session.config
        reason = "failed"
        try:
            reason = await session.run()
        finally:
            call.leave(config.session_id)
            if call.empty:
                self._calls.pop((config.group_id, config.call_id), None)
            self._running.pop(config.session_id, None)
            await session.close()
            self._log.info("session.ended", session_id=config.session_id, reason=reason)
