"""Sends STUN requests to a media port over UDP or TCP, and tells how many came back, and how fast."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from offloader.doctor.network import stun
from offloader.doctor.network.stun import Response, StunError

REQUESTS: Final = 20
_INTERVAL_S: Final = 0.02
_PATIENCE_S: Final = 1.5
"""For the last answer; RFC 8489 section 6.2.1 takes 500 ms for a first guess of the round trip."""
_CONNECT_S: Final = 3.0
_READ_BYTES: Final = 4096

MakeRequest = Callable[[bytes], bytes]
"""From a transaction id to the request."""
Accept = Callable[[Response], bool]
"""Is this an answer of who was asked?"""


@dataclass(slots=True)
class Probe:
    """How one address answered."""

    sent: int = 0
    round_trips_s: list[float] = field(default_factory=list)
    """One of each answered request."""
    mapped: str = ""
    """Under which address it saw us."""
    refused: bool = False
    """The host says that nobody listens there (ICMP port unreachable, TCP reset at the connection)."""
    connected: bool = False
    """TCP only."""
    hung_up: bool = False
    """TCP only: closed by the other side before any answer."""
    reason: str = ""
    """Why there could be no answer, for people."""

    @property
    def answered(self) -> int:
        return len(self.round_trips_s)

    @property
    def loss(self) -> float:
        """0 to 1."""
        return 1 - self.answered / self.sent if self.sent else 1.0

    @property
    def round_trip_ms(self) -> float:
        """The median; 0 without an answer."""
        return statistics.median(self.round_trips_s) * 1000 if self.round_trips_s else 0.0


async def probe_udp(
    host: str,
    port: int,
    make: MakeRequest,
    accept: Accept = lambda response: response.succeeded,
    *,
    requests: int = REQUESTS,
) -> Probe:
    """`requests` requests, none of them sent again: what does not come back is lost."""
    asking = _Asking(make, accept)
    loop = asyncio.get_running_loop()
    try:
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(asking), remote_addr=(host, port)
        )
    except OSError as error:
        asking.probe.reason = error.strerror or str(error)
        return asking.probe
    try:
        for _ in range(requests):
            transport.sendto(asking.next())
            await asyncio.sleep(_INTERVAL_S)
            if asking.probe.refused:
                break
        await asking.settled(_PATIENCE_S)
    finally:
        transport.close()
    return asking.probe


async def probe_tcp(
    host: str,
    port: int,
    make: MakeRequest,
    accept: Accept = lambda response: response.succeeded,
    *,
    requests: int = REQUESTS,
    frames: bool = True,
    tls: ssl.SSLContext | None = None,
    server_name: str = "",
) -> Probe:
    """The same over one connection, each request after the answer to the one before: nothing is lost on TCP.

    `frames`: with RFC 4571's lengths, as an SFU wants; a STUN or TURN server wants none
    (RFC 8489 section 6.2.2).
    """
    asking = _Asking(make, accept)
    probe = asking.probe
    try:
        async with asyncio.timeout(_CONNECT_S):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=tls, server_hostname=(server_name or host) if tls else None
            )
    except ConnectionRefusedError:
        probe.refused, probe.reason = True, "connection refused"
        return probe
    except TimeoutError:
        probe.reason = f"no connection within {_CONNECT_S:g} s"
        return probe
    except OSError as error:
        probe.reason = getattr(error, "strerror", None) or str(error)
        return probe
    probe.connected = True
    try:
        async with asyncio.timeout(_PATIENCE_S * 2):
            for _ in range(requests):
                message = asking.next()
                writer.write(stun.framed(message) if frames else message)
                await writer.drain()
                while not asking.all_answered:
                    asking.came(await _read_message(reader, frames=frames))
    except TimeoutError:
        probe.reason = "the connection stands, and nothing answers on it"
    except (OSError, asyncio.IncompleteReadError):
        probe.hung_up, probe.reason = True, "the other side hung up"
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), 1)
    return probe


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes, *, timeout_s: float
) -> Response:
    """One request and its answer on a stream without frames (TURN over TCP).

    Raises:
        StunError: something else came.
        OSError, EOFError: the connection broke; TimeoutError is an OSError.
    """
    async with asyncio.timeout(timeout_s):
        writer.write(message)
        await writer.drain()
        return stun.parse_response(await _read_message(reader, frames=False))


async def _read_message(reader: asyncio.StreamReader, *, frames: bool) -> bytes:
    if frames:
        return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
    header = await reader.readexactly(20)
    return header + await reader.readexactly(int.from_bytes(header[2:4], "big"))


class _Asking:
    """Requests that are under way."""

    def __init__(self, make: MakeRequest, accept: Accept) -> None:
        self.probe = Probe()
        self._make = make
        self._accept = accept
        self._sent_ns: dict[bytes, int] = {}
        self._changed = asyncio.Event()

    @property
    def all_answered(self) -> bool:
        return not self._sent_ns

    def next(self) -> bytes:
        """A new request, which counts as sent now."""
        transaction_id = stun.new_transaction_id()
        message = self._make(transaction_id)
        self.probe.sent += 1
        self._sent_ns[transaction_id] = time.monotonic_ns()
        return message

    def came(self, data: bytes) -> None:
        """Something came back; what answers none of our requests is not looked at."""
        now_ns = time.monotonic_ns()
        try:
            response = stun.parse_response(data)
        except StunError:
            return
        if response.transaction_id not in self._sent_ns or not self._accept(response):
            return
        sent_ns = self._sent_ns.pop(response.transaction_id)
        self.probe.round_trips_s.append((now_ns - sent_ns) / 1e9)
        if (mapped := response.address()) is not None:
            self.probe.mapped = f"{mapped[0]}:{mapped[1]}"
        self._changed.set()

    def refused(self) -> None:
        self.probe.refused, self.probe.reason = True, "nobody listens there (ICMP port unreachable)"
        self._changed.set()

    async def settled(self, limit_s: float) -> None:
        """Until all is answered or refused, at most `limit_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self._sent_ns and not (self.probe.refused and not self.probe.answered):
                    self._changed.clear()
                    await self._changed.wait()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, asking: _Asking) -> None:
        self._asking = asking

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._asking.came(data)

    def error_received(self, exc: Exception) -> None:
        if isinstance(exc, ConnectionRefusedError):
            self._asking.refused()
