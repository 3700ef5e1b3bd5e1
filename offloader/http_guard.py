"""uvicorn's HTTP protocol with further limits: time for head and body, size of the head, connections.

Whoever sends a request byte by byte loses its connection, with a clear answer, before it costs anything.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from http import HTTPStatus
from typing import Any, ClassVar, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

HEAD_S: Final = 10.0
"""From the connection, or from the first byte of a later request, to the end of the head."""
BODY_S: Final = 30.0
"""From the end of the head to the end of the body, which has at most 1 MiB."""
HEAD_BYTES: Final = 64 * 1024
MOST_CONNECTIONS: Final = 2048
MOST_OF_ONE_ADDRESS: Final = 1024


class GuardedProtocol(HttpToolsProtocol):
    """One connection. `peer` is set for connections whose TLS ended elsewhere (`tls_door.py`)."""

    peer: tuple[str, int] | None = None
    _of_address: ClassVar[Counter[str]] = Counter()
    """Open connections by address; of all servers of this process."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadline: asyncio.TimerHandle | None = None
        self._in_head = True
        self._head_bytes = 0
        self._counted: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        if self.peer is not None:
            self.client, self.scheme = self.peer, "https"
        address = self.client[0] if self.client else ""
        of_address = GuardedProtocol._of_address[address]
        if len(self.connections) > MOST_CONNECTIONS or of_address >= MOST_OF_ONE_ADDRESS:
            self._refuse(503, "too many connections: try again later")
            return
        self._counted = address
        GuardedProtocol._of_address[address] += 1
        self._arm(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        if self._counted is not None:
            GuardedProtocol._of_address[self._counted] -= 1
            if not GuardedProtocol._of_address[self._counted]:
                del GuardedProtocol._of_address[self._counted]
            self._counted = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._deadline is None:
                self._arm(HEAD_S)
        super().data_received(data)
        if self._in_head and self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, f"request head too large: more than {HEAD_BYTES} bytes")

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        self._arm(BODY_S)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        self._disarm()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg)

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self._late)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if self.flow.read_paused or (self._in_head and self._answering):
            self._arm(HEAD_S)  # it is us who take the time
        elif self._in_head and not self._head_bytes:
            self.transport.close()  # never asked anything
        else:
            part = "head" if self._in_head else "body"
            self._refuse(408, f"request timeout: its {part} took too long")

    @property
    def _answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _refuse(self, status: int, text: str) -> None:
        """Answer in the service's form, unless an answer is out or under way, and close."""
        answerable = not self._answering if self._in_head else not self.cycle.response_started
        if answerable:
            body = json.dumps({"error": text, "code": str(status)}).encode() + b"\n"
            head = (
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
                "content-type: application/json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        if self._answering:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()
