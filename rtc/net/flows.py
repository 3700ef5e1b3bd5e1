"""The TCP flows that transports hold, by path: what clients and servers have in common."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence

from rtc.ice.path import Path
from rtc.net.network import Attached, Route
from rtc.net.tcp_flow import BACKLOG_BYTES, FrameReader, TcpFlow

_CONNECT_TIMEOUT_S = 10.0
_MAX_UNPROVEN = 16
"""Flows to one transport that named it but have not proved to know its password: the oldest goes."""


class Flows:
    """Opens, adopts and closes flows; each belongs to one transport."""

    def __init__(self, *, backlog_bytes: int = BACKLOG_BYTES) -> None:
        """`backlog_bytes`: what may wait for each flow's reader."""
        self._backlog_bytes = backlog_bytes
        self._dropped = 0
        """By flows that are closed."""
        self._flows: dict[Path, TcpFlow] = {}
        self._owners: dict[Path, Attached] = {}
        self._validated: set[Path] = set()
        self._dialling: dict[Path, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._flows)

    @property
    def dropped(self) -> int:
        """Datagrams that found their flow's backlog full."""
        return self._dropped + sum(flow.dropped for flow in self._flows.values())

    def adopt(
        self,
        sock: socket.socket,
        path: Path,
        owner: Attached,
        reader: FrameReader,
        frames: Sequence[bytes] = (),
    ) -> None:
        """Read and write `sock` for `owner` from now on; `frames` have come already."""
        unproven = [
            other
            for other in self._flows
            if other not in self._validated and self._owners.get(other) is owner
        ]
        if len(unproven) >= _MAX_UNPROVEN:
            self._lost(unproven[0], "too many flows that prove nothing")
        self._owners[path] = owner
        flow = TcpFlow(
            sock,
            reader=reader,
            on_frame=lambda frame: self._received(path, frame),
            # Its name may be another one's by then.
            on_closed=lambda: self._lost(path, "closed") if self._flows.get(path) is flow else None,
            backlog_bytes=self._backlog_bytes,
        )
        self._flows[path] = flow
        for frame in frames:
            self._received(path, frame)

    def connect(self, path: Path, owner: Attached) -> None:
        """Open a flow to `path.remote`; tells `owner` how it ends."""
        self._owners[path] = owner
        self._dialling[path] = asyncio.create_task(self._dial(path, owner), name="ice-tcp")

    def send(self, path: Path, datagram: bytes) -> None:
        flow = self._flows.get(path)
        if flow is not None:
            flow.send(datagram)

    def route(self, path: Path) -> Route | None:
        flow = self._flows.get(path)
        return None if flow is None else Route(flow.send, None)

    def bind(self, path: Path) -> None:
        self._validated.add(path)

    def release(self, path: Path) -> None:
        """Close one flow, or stop opening it."""
        self._owners.pop(path, None)
        self._validated.discard(path)
        dialling = self._dialling.pop(path, None)
        if dialling is not None:
            dialling.cancel()
        flow = self._flows.pop(path, None)
        if flow is not None:
            self._dropped += flow.dropped
            flow.close()

    def release_from(self, host: str) -> None:
        """Those from an address that this host has no more."""
        for path in [path for path in self._owners if path.local[0] == host]:
            self.release(path)

    def forget(self, owner: Attached) -> None:
        for path in [path for path, other in self._owners.items() if other is owner]:
            self.release(path)

    def _received(self, path: Path, frame: bytes) -> None:
        owner = self._owners.get(path)
        if owner is None or not frame:
            return
        if frame[0] < 4:
            owner.stun_received(frame, path)
        elif path in self._validated:
            owner.on_data(frame)

    def _lost(self, path: Path, reason: str) -> None:
        owner = self._owners.get(path)
        self.release(path)
        if owner is not None:
            owner.flow_lost(path, reason)

    async def _dial(self, path: Path, owner: Attached) -> None:
        family = socket.AF_INET6 if ":" in path.remote[0] else socket.AF_INET
        try:
            sock = socket.socket(family)
        except OSError as error:  # no descriptors left
            self._not_opened(path, error)
            return
        try:
            sock.setblocking(False)
            with contextlib.suppress(OSError):  # an address that is gone fails at connect
                sock.bind((path.local[0], 0))
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await asyncio.get_running_loop().sock_connect(sock, path.remote)
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError):  # TimeoutError is one
                self._not_opened(path, error)
                return
            raise
        self._dialling.pop(path, None)
        self.adopt(sock, path, owner, FrameReader())
        owner.flow_opened(path)

    def _not_opened(self, path: Path, error: OSError) -> None:
        self._dialling.pop(path, None)
        self._lost(path, str(error) or "no connection in time")
