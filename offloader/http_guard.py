"""uvicorn's HTTP protocol with further limits: time for head and body, size of the head, connections.

Whoever sends a request byte by byte loses its connection, with a clear answer, before it costs anything.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from http import HTTPStatus
from typing import Any, ClassVar, Final, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from clientauth.turns import source_of
from foundation.limited_lines import LimitedLines

HEAD_S: Final = 10.0
"""From the connection, or from the first byte of a later request, to the end of the head."""
BODY_S: Final = 30.0
"""From the end of the head to the end of the body, which has at most 1 MiB."""
HEAD_BYTES: Final = 64 * 1024
"""From the first byte, line ends before the request line included, to the empty line; of the trailer fields
behind a chunked body (RFC 9112 section 7.1.2) about as much."""
MOST_CONNECTIONS: Final = 2048
MOST_OF_ONE_ADDRESS: Final = 1024
_END: Final = b"\r\n\r\n"
"""Of every head, and of every chunked body; the parser takes no other line ends."""
_LINE_ENDS: Final = re.compile(rb"[\r\n]*")


class GuardedProtocol(HttpToolsProtocol):
    """One connection. `peer` is set for connections whose TLS ended elsewhere (`tls_door.py`)."""

    peer: tuple[str, int] | None = None
    _of_address: ClassVar[Counter[str]] = Counter()
    """Open connections by address; of all servers of this process."""
    _malformed: ClassVar[LimitedLines] = LimitedLines("http.malformed")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadline: asyncio.TimerHandle | None = None
        self._in_head = True
        self._head_begun = False
        """More than line ends has come of it (RFC 9112 section 2.2)."""
        self._head_bytes = 0
        """Of the head so far; of a chunked body, since its last content."""
        self._body_left: int | None = None
        """Bytes of the body that are still to come; None: only its end tells."""
        self._content: list[bytes] = []
        """Of the body, from this read: given on at once, since each time copies all that waits."""
        self._upgrading = False
        """The rest of this read is of the protocol that the sender wishes for; nobody here speaks it."""
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
        at, self._upgrading = 0, False
        while at < len(data) and not (self._upgrading or self.transport.is_closing()):
            if self._in_head and self._deadline is None:
                self._arm(HEAD_S)
            end = self._part_end(data, at)
            if self._in_head or self._body_left is None:
                self._head_bytes += end - at
            else:
                self._body_left -= end - at
            self._parse(data[at:end])
            at = end
            # A head that is still open wants at least one byte more.
            if self._head_bytes >= HEAD_BYTES and not self.transport.is_closing():
                part = "head" if self._in_head else "trailer"
                self._refuse(431, f"request {part} too large: more than {HEAD_BYTES} bytes")
        self._give_content()

    def _parse(self, data: bytes) -> None:
        """As uvicorn's `data_received`, which writes a line for each request that is none, and two for each
        wish for another protocol, which this one leaves unmet (RFC 9110 section 7.8)."""
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return
        except httptools.HttpParserError:
            address = self.client[0] if self.client else ""
            GuardedProtocol._malformed.tell(source_of(address), peer=address)
            self.send_400_response("Invalid HTTP request received.")

    def _part_end(self, data: bytes, at: int) -> int:
        """To where the parser gets it at a time: no further than the head or body that is open, since it does
        not tell where in its input one has ended, and no further than a head may go."""
        if not self._in_head and self._body_left is not None and self._body_left > 0:
            return min(at + self._body_left, len(data))
        if self._in_head and not self._head_begun:
            match = _LINE_ENDS.match(data, at)
            if match is not None and match.end() > at:
                return min(match.end(), at + HEAD_BYTES - self._head_bytes)
            self._head_begun = True
        # What ends within the first bytes may have begun in the read before.
        end = data.find(b"\n", at, len(_END) - 1) + 1
        if not end and (found := data.find(_END, at)) >= 0:
            end = found + len(_END)
        end = end or len(data)
        return min(end, at + HEAD_BYTES - self._head_bytes) if self._in_head else end

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # trailer fields are no header fields (RFC 9110 section 6.5.1)
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        fields = dict(self.headers)
        chunked = b"transfer-encoding" in fields
        self._body_left = None if chunked else int(fields.get(b"content-length", b"0"))
        self._head_bytes = 0
        super().on_headers_complete()
        self._in_head = False
        self._arm(BODY_S)

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        self._content.append(body)

    def _give_content(self) -> None:
        if self._content:
            super().on_body(b"".join(self._content))
            self._content.clear()

    def on_message_complete(self) -> None:
        self._give_content()
        self._in_head = True
        self._head_begun = False
        self._head_bytes = 0
        self._upgrading = self.parser.should_upgrade()
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
