"""The media port where several worker processes serve it: whose is what comes in first?

UDP: a connectivity check names its worker in the ufrag, an answer to one in its transaction id; anything
else follows the checks of its source. Once a worker has authenticated a source it connects a socket of its
own to it (`rtc.net.worker_port`), and the kernel brings everything further there. TCP: the first frame
decides.
"""

from __future__ import annotations

import socket
from collections import OrderedDict
from collections.abc import Sequence

from rtc.errors import PortTaken
from rtc.ice.path import Address
from rtc.net.announced import Listening
from rtc.net.handover import HandoverSender
from rtc.net.tcp_door import TcpDoor
from rtc.net.tcp_flow import FrameReader
from rtc.net.udp_socket import UdpSocket, bind_udp
from rtc.stun import is_stun, request_ufrag

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
MAX_WORKERS = len(_ALPHABET) ** 2
_SOURCE_LIMIT = 16_384


def worker_tag(number: int) -> str:
    """Two characters that ufrags and transaction ids of worker `number` begin with."""
    high, low = divmod(number, len(_ALPHABET))
    return _ALPHABET[high] + _ALPHABET[low]


class Doorman:
    """`open`, then `serve` says who the workers are; `close` in the end."""

    def __init__(self) -> None:
        self._workers: dict[str, HandoverSender] = {}
        self._sources: OrderedDict[tuple[int, Address], str] = OrderedDict()
        self._udp: list[UdpSocket] = []
        self._doors: list[TcpDoor] = []
        self.udp_port = self.tcp_port = 0
        self.dropped_datagrams = 0
        """That belong to no worker."""
        self._lost_on_the_way = 0

    def open(self, listening: Sequence[Listening], *, udp_port: int, tcp_port: int) -> None:
        """Bind all; port 0 takes a free one. Raises PortTaken."""
        self.udp_port, self.tcp_port = udp_port, tcp_port
        try:
            for entry in listening:
                if entry.transport == "udp":
                    self._open_udp(entry.host)
                else:
                    door = TcpDoor(entry.host, self.tcp_port, on_first_frames=self._flow_began)
                    self.tcp_port = door.local[1]
                    self._doors.append(door)
        except PortTaken:
            self.close()
            raise

    @property
    def udp_sockets(self) -> Sequence[socket.socket]:
        """In the order of their index; workers send with them what has no connected socket yet."""
        return [udp.socket for udp in self._udp]

    @property
    def refused_flows(self) -> int:
        """TCP connections that did not say whose they are, or lied."""
        return sum(door.refused for door in self._doors)

    @property
    def not_handed_over(self) -> int:
        """Datagrams and connections that their worker was too slow for, or did not live for."""
        return self._lost_on_the_way + sum(worker.dropped for worker in self._workers.values())

    def serve(self, number: int, worker: HandoverSender) -> None:
        """Worker `number` takes what is its own from now on, also after another one of that number."""
        self.dismiss(number)
        self._workers[worker_tag(number)] = worker

    def dismiss(self, number: int) -> None:
        """Worker `number` is gone; unknown ones are fine."""
        worker = self._workers.pop(worker_tag(number), None)
        if worker is not None:
            self._lost_on_the_way += worker.dropped
            worker.close()

    def close(self) -> None:
        """Idempotent."""
        for udp in self._udp:
            udp.close()
        for door in self._doors:
            door.close()
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()

    def _open_udp(self, host: str) -> None:
        # SO_REUSEPORT, which the workers' sockets need, would let a second server in unnoticed.
        guard = bind_udp(host, self.udp_port)
        self.udp_port = guard.getsockname()[1]
        guard.close()
        sock = bind_udp(host, self.udp_port, reuse_port=True)
        index = len(self._udp)
        self._udp.append(
            UdpSocket(sock, lambda data, source: self._datagram_came(index, data, source))
        )

    def _datagram_came(self, index: int, data: bytes, source: Address) -> None:
        key = index, source
        if is_stun(data):
            ufrag = request_ufrag(data)
            tag = data[8:10].decode("latin-1") if ufrag is None else ufrag[:2]
            if ufrag is not None and tag in self._workers:
                self._sources[key] = tag
                self._sources.move_to_end(key)
                if len(self._sources) > _SOURCE_LIMIT:
                    self._sources.popitem(last=False)
        else:
            tag = self._sources.get(key, "")
        worker = self._workers.get(tag)
        if worker is None or not data:
            self.dropped_datagrams += 1
        else:
            worker.datagram(index, source, data)

    def _flow_began(
        self, sock: socket.socket, frames: list[bytes], reader: FrameReader, source: Address
    ) -> bool:
        ufrag = request_ufrag(frames[0])
        worker = None if ufrag is None else self._workers.get(ufrag[:2])
        if worker is None:
            return False
        begun = b"".join(len(frame).to_bytes(2, "big") + frame for frame in frames)
        if not worker.flow(0, source, begun + reader.rest, sock):
            return False
        sock.close()  # the worker has its own descriptor
        return True
