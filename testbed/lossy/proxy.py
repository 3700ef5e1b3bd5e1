"""A UDP proxy between one listener and the SFU, with weather on it, that counts what it lets through.

SRTP leaves SSRC and sequence number in clear (RFC 3711 section 3.1), so what arrived is known exactly,
whoever lost the rest: the proxy itself, or iptables in front of it.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final

from rtc.net.udp_socket import UdpSocket, bind_udp
from rtc.rtp import Unwrapper, is_rtcp
from testbed.lossy.weather import Fate, Weather

_HOST: Final = "127.0.0.1"
_NS: Final = 1_000_000_000
Address = tuple[str, int]


@dataclass(slots=True)
class Passed:
    """What of one SSRC got through to the listener."""

    numbers: set[int] = field(default_factory=set)
    """Unwrapped."""
    unwrapper: Unwrapper = field(default_factory=lambda: Unwrapper(16))

    def note(self, sequence: int) -> None:
        self.numbers.add(self.unwrapper.unwrap(sequence))

    @property
    def lost(self) -> int:
        """Between the first and the last one that came."""
        if not self.numbers:
            return 0
        return max(self.numbers) - min(self.numbers) + 1 - len(self.numbers)


class LossyProxy:
    """Fair until `begin`. `close` in the end."""

    def __init__(self, sfu_port: int) -> None:
        self._sfu: Address = (_HOST, sfu_port)
        self._client: Address | None = None
        self._front = UdpSocket(bind_udp(_HOST, 0), self._from_client)
        self._back = UdpSocket(bind_udp(_HOST, 0), self._from_sfu)
        self._loop = asyncio.get_running_loop()
        self._down: Fate | None = None
        self._up: Fate | None = None
        self.passed: dict[int, Passed] = {}
        """By SSRC, since `begin`."""
        self.begun_ns = 0

    @property
    def port(self) -> int:
        """Where the listener believes the SFU to be."""
        return self._front.local[1]

    @property
    def back_port(self) -> int:
        """Whence the SFU sees the listener."""
        return self._back.local[1]

    def begin(self, down: Weather, up: Weather, *, seed: int) -> None:
        """`down`: towards the listener. From now on."""
        self.begun_ns = time.monotonic_ns()
        self._down = Fate(down, seed=2 * seed, begin_ns=self.begun_ns)
        self._up = Fate(up, seed=2 * seed + 1, begin_ns=self.begun_ns)

    def close(self) -> None:
        self._front.close()
        self._back.close()

    def _from_client(self, data: bytes, source: Address) -> None:
        self._client = source
        delay_ns = 0 if self._up is None else self._up.delay_ns(time.monotonic_ns())
        if delay_ns is not None:
            self._later(delay_ns, self._back, data, self._sfu)

    def _from_sfu(self, data: bytes, source: Address) -> None:
        if self._client is None or source != self._sfu:
            return
        delay_ns = 0 if self._down is None else self._down.delay_ns(time.monotonic_ns())
        if delay_ns is None:
            return
        if self._down is not None and 128 <= data[0] <= 191 and not is_rtcp(data):
            ssrc = int.from_bytes(data[8:12])
            self.passed.setdefault(ssrc, Passed()).note(int.from_bytes(data[2:4]))
        self._later(delay_ns, self._front, data, self._client)

    def _later(self, delay_ns: int, out: UdpSocket, data: bytes, to: Address) -> None:
        if delay_ns == 0:
            out.send(data, to)
        else:
            self._loop.call_later(delay_ns / _NS, self._send, out, data, to)

    @staticmethod
    def _send(out: UdpSocket, data: bytes, to: Address) -> None:
        if not out.closed:
            out.send(data, to)
