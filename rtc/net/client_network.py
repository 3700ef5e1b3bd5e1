"""A client's own sockets: one UDP socket for each local address, and TCP flows that it opens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence

from rtc.errors import PortTaken, TransportError
from rtc.ice.candidate import TCP_ACTIVE_PORT, host_candidate
from rtc.ice.credentials import IceCredentials
from rtc.ice.interfaces import local_addresses
from rtc.ice.path import Address, Path
from rtc.net.client_servers import ServerCandidates
from rtc.net.flows import Flows
from rtc.net.network import Attached, LocalCandidate, Route
from rtc.net.transport import IceTransport
from rtc.net.udp_socket import UdpSocket, bind_udp

_MAX_ADDRESSES = 16
"""Of a host with many container bridges, say: each costs a socket, and a check for each remote candidate."""
_MAX_EVER = 64
"""Where interfaces come and go all the time, what is announced must come to an end."""


def own_addresses() -> list[str]:
    """All of this host's, IPv4 first. Blocks for a millisecond or two; raises OSError."""
    return sorted(local_addresses(ipv6=True), key=lambda host: ":" in host)


class ClientNetwork:
    """Sockets for exactly one transport; they live as long as it does."""

    def __init__(
        self,
        *,
        addresses: Sequence[str] | None = None,
        udp: bool = True,
        tcp: bool = True,
        relay_only: bool = False,
    ) -> None:
        """`addresses`: of this host, default all of its own, IPv4 first, 16 at most. `relay_only`: none of
        them, as there will be relay candidates (`servers`).

        Raises:
            TransportError: not one of the addresses can be used.
        """
        self._sockets: dict[Address, UdpSocket] = {}
        self._flows = Flows()
        self._transport: Attached | None = None
        self._validated: set[Path] = set()
        self._candidates: list[LocalCandidate] = []
        self._udp, self._tcp = udp and not relay_only, tcp and not relay_only
        self._hosts: list[str] = []
        """The addresses in use."""
        self._opened = 0
        """Addresses ever."""
        self.dropped_datagrams = 0
        """From addresses that proved nothing."""
        self.servers: ServerCandidates | None = None
        """What STUN and TURN servers add; closed together with the sockets."""
        if relay_only:
            return
        hosts = list(addresses if addresses is not None else own_addresses()[:_MAX_ADDRESSES])
        for host in hosts:
            with contextlib.suppress(PortTaken):  # an interface that just went away
                self._open(host)
        if not self._candidates:
            raise TransportError(f"no local address can be used: {', '.join(hosts) or 'none'}")

    @property
    def udp_sockets(self) -> Mapping[Address, UdpSocket]:
        return self._sockets

    def follow(self, hosts: Sequence[str]) -> tuple[list[LocalCandidate], list[Address]]:
        """This host has all these addresses now: use new ones, and close what belongs to those that are gone.

        Returns the candidates that came and the bases that went; the owner tells its transport. Beyond 16
        at a time and 64 ever no new one is used.
        """
        known = len(self._candidates)
        for host in hosts:
            full = len(self._hosts) >= _MAX_ADDRESSES or self._opened >= _MAX_EVER
            if host not in self._hosts and not full:
                with contextlib.suppress(PortTaken):  # not usable yet, as a fresh IPv6 address
                    self._open(host)
        came = self._candidates[known:]
        gone = [host for host in self._hosts if host not in hosts]
        left = [local for local in self._candidates if local.base[0] in gone]
        for local in left:
            self._candidates.remove(local)
            sock = self._sockets.pop(local.base, None)
            if sock is not None:
                sock.close()
        # Not those through a relay, whose local address is the relay's.
        self._validated = {path for path in self._validated if path.local[0] not in gone}
        for host in gone:
            self._hosts.remove(host)
            self._flows.release_from(host)
        return came, [local.base for local in left]

    def candidates(self) -> Sequence[LocalCandidate]:
        return self._candidates

    def new_credentials(self) -> IceCredentials:
        return IceCredentials.generate()

    def register(self, ufrag: str, transport: Attached) -> None:
        self._transport = transport

    def send(self, path: Path, datagram: bytes, transport: Attached) -> None:
        if path.transport == "tcp":
            self._flows.send(path, datagram)
            return
        sock = self._sockets.get(path.local)
        if sock is not None:
            sock.send(datagram, path.remote)
        elif self.servers is not None:
            self.servers.relays.send(path, datagram)

    def route(self, path: Path) -> Route | None:
        if path.transport == "tcp":
            return self._flows.route(path)
        sock = self._sockets.get(path.local)
        if sock is None:
            return None if self.servers is None else self.servers.relays.route(path)
        return Route(sock.sendto, path.remote)

    def bind(self, path: Path, transport: Attached) -> None:
        if path.transport == "tcp":
            self._flows.bind(path)
        else:
            self._validated.add(path)

    def release(self, path: Path, transport: Attached) -> None:
        self._flows.release(path)
        self._validated.discard(path)

    def connect(self, path: Path, transport: Attached) -> None:
        self._flows.connect(path, transport)

    def forget(self, transport: Attached) -> None:
        self._flows.forget(transport)
        if self.servers is not None:
            self.servers.close()
        for sock in self._sockets.values():
            sock.close()
        self._transport = None

    def _open(self, host: str) -> None:
        """Raises PortTaken: the address cannot be used."""
        index = self._opened
        if self._udp:
            sock = UdpSocket(
                bind_udp(host, 0), lambda data, source: self._received(local, data, source)
            )
            local = sock.local
            self._sockets[local] = sock
            candidate = host_candidate(host, local[1], preference=65535 - index)
            self._candidates.append(LocalCandidate(candidate, local))
        if self._tcp:
            active = host_candidate(
                host, TCP_ACTIVE_PORT, transport="tcp", tcptype="active", preference=8191 - index
            )
            self._candidates.append(LocalCandidate(active, (host, TCP_ACTIVE_PORT)))
        self._hosts.append(host)
        self._opened += 1

    def _received(self, local: Address, data: bytes, source: Address) -> None:
        self.datagram_came(Path("udp", local, source), data)

    def datagram_came(self, path: Path, data: bytes) -> None:
        """From a socket, or through a relay."""
        transport = self._transport
        if transport is None or not data:
            return
        if data[0] < 4:
            if self.servers is None or not self.servers.stun_received(data, path):
                transport.stun_received(data, path)
        elif path in self._validated:
            transport.on_data(data)
        else:
            self.dropped_datagrams += 1


def client_transport(
    *,
    controlling: bool,
    on_data: Callable[[bytes], None],
    on_selected: Callable[[], None],
    on_lost: Callable[[str], None],
    addresses: Sequence[str] | None = None,
    udp: bool = True,
    tcp: bool = True,
) -> IceTransport:
    """A transport with sockets of its own. Raises TransportError: see `ClientNetwork`."""
    return IceTransport(
        ClientNetwork(addresses=addresses, udp=udp, tcp=tcp),
        controlling=controlling,
        on_data=on_data,
        on_selected=on_selected,
        on_lost=on_lost,
    )
