"""A worker: serves its share of the calls. Started by `sfu.workers.pool`, never by hand.

Arguments: number, descriptors of link, hand-over and UDP sockets (comma-separated).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

import uvloop

from foundation.logs import configure_logs, get_logger
from rtc.net.announced import Announced
from rtc.net.doorman import worker_tag
from rtc.net.worker_port import WorkerPort
from sfu.limits import Limits
from sfu.media_port import JoinError
from sfu.server import SfuServer
from sfu.workers.link import (
    Link,
    LinkBroken,
    Message,
    pack_outgoing,
    unpack_config,
    unpack_rtc,
)
from sfu.workers.log_relay import RelayHandler


def main() -> int:
    """Entry point; returns the exit code."""
    # Signals are the owner's business: it tells us when to go.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    number, link, handover, *udp = (int(argument) for argument in sys.argv[1:])
    uvloop.run(_Worker(number).run(link, handover, udp))
    return 0


class _Worker:
    """Answers the owner until the owner is gone."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._announced: Sequence[Announced] = ()

    async def run(self, link: int, handover: int, udp: Sequence[int]) -> None:
        self._link = await Link.over(socket.socket(fileno=link))
        messages = self._link.messages()
        start = await anext(messages, None)
        if start is None:
            return  # the owner is gone already
        self._relay_logs(start["log_level"])
        self._announced = [Announced(*entry) for entry in start["announced"]]
        limits = Limits.unpack(start["limits"])
        port = WorkerPort(
            tag=worker_tag(self._number),
            handover=socket.socket(fileno=handover),
            udp_sockets=[socket.socket(fileno=descriptor) for descriptor in udp],
            tcp_port=start["tcp_port"],
            bounds=limits.ice(),
            tcp_queue_bytes=limits.tcp_queue_bytes,
        )
        self._server = SfuServer(
            announced=self._known,
            port=port,
            udp_port=port.udp_port,
            tcp_port=port.tcp_port,
            history_packets=start["history_packets"],
            skip_hello_verify=start["skip_hello_verify"],
            limits=limits,
        )
        await self._server.start()
        self._say({"t": "ready", "pid": os.getpid()})
        try:
            async for message in messages:
                if message["t"] == "end":
                    break
                try:
                    await self._take(message)
                except Exception:  # noqa: BLE001 - one session must not cost the others anything
                    get_logger(component="worker").exception("message.failed", t=message["t"])
        finally:
            await self._server.close()
            await self._link.finish()

    async def _known(self) -> Sequence[Announced]:
        return self._announced

    async def _take(self, message: Message) -> None:
        match message["t"]:
            case "join":
                await self._join(message)
            case "rtc":
                rtc = unpack_rtc(message["message"])
                await self._server.handle(rtc.session_id, rtc)
            case "leave":
                # Not awaited: others need not wait for one who takes its time.
                self._server.end(message["session"])
            case "announced":
                self._announced = [Announced(*entry) for entry in message["announced"]]
            case "snapshot":
                snapshots = await self._server.snapshots()
                self._say({"t": "snapshot", "snapshot": snapshots[0]})

    async def _join(self, message: Message) -> None:
        config = unpack_config(message["config"])
        session_id = config.session_id

        def outlet(outgoing: Any) -> None:
            self._say({"t": "out", "session": session_id, "message": pack_outgoing(outgoing)})

        try:
            await self._server.join(config, outlet)
        except JoinError as error:
            get_logger(component="worker").warning("join.refused", reason=str(error))
            self._say({"t": "out", "session": session_id, "message": ["close", session_id]})

    def _say(self, message: Message) -> None:
        with contextlib.suppress(LinkBroken):  # the owner is gone: `run` is about to end
            self._link.send(message)

    def _relay_logs(self, level: str) -> None:
        configure_logs(level=level, json=True, stream=sys.stderr)
        root = logging.getLogger()
        root.handlers[:] = [RelayHandler(lambda line: self._say({"t": "log", "line": line}))]


if __name__ == "__main__":
    sys.exit(main())
