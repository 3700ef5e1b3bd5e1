"""The one place where the double meets sockets and ICE: everything else works on descriptions and packets."""

from __future__ import annotations

import random

from rtc.ice.generation import Generation
from rtc.ice.interfaces import local_addresses
from rtc.ice.pair import Pair
from rtc.ice.selection import Selection
from rtc.negotiation import Capabilities
from rtc.net.announced import Announced
from rtc.net.server_port import SERVER_TIMINGS
from rtc.net.shared_port import SharedPort
from rtc.net.transport import IceTransport
from rtc.peer import Peer, PeerEvents
from testbed.rtcd_double.script import Script
from testbed.rtcd_double.transceivers import PionNegotiation


class PionSelection(Selection):
    """Of a controlled agent that keeps its pair unless one of higher priority is nominated.

    So it does not follow a client whose UDP died to TCP, however silent the old pair is; only an ICE restart
    moves it.
    """

    __slots__ = ()

    def take_nomination(self, generation: Generation, pair: Pair, now_ns: int) -> None:
        present = self.pair
        if not pair.nominated_ns or pair is present:
            return
        if present is None or self.generation is not generation or pair.priority > present.priority:
            self._select(generation, pair, now_ns)


class MediaSocket:
    """One UDP and one TCP port for all sessions."""

    def __init__(self) -> None:
        self._port = SharedPort()

    @property
    def udp_port(self) -> int:
        """Once open."""
        return self._port.udp_port

    def open(self, *, address: str | None, port: int, udp: bool, tcp: bool) -> None:
        """Listen on one address, or on all of this host, loopback included. Raises PortTaken.

        `port` 0: free ones. Where `udp` is False nobody is told of the UDP port.
        """
        hosts = [address] if address is not None else local_addresses()
        announced = [Announced("udp", host, 0, host) for host in hosts if udp]
        announced += [Announced("tcp", host, 0, host) for host in hosts if tcp]
        self._port.open(announced, udp_port=port, tcp_port=port)

    def close(self) -> None:
        self._port.close()

    def new_peer(
        self, events: PeerEvents, *, script: Script, connect_timeout_s: float
    ) -> tuple[Peer, PionNegotiation]:
        """A controlled peer that negotiates as pion does."""
        peer = Peer(
            ice=lambda on_data, on_selected, on_lost: IceTransport(
                self._port,
                controlling=False,
                on_data=on_data,
                on_selected=on_selected,
                on_lost=on_lost,
                timings=SERVER_TIMINGS,
                selection=PionSelection,
            ),
            capabilities=Capabilities(audio_codecs=(), video_codecs=()),
            events=events,
            connect_timeout_s=connect_timeout_s,
        )
        first = {"yes": True, "no": False}.get(script.offers_av1_first, random.random() < 0.5)
        negotiation = PionNegotiation(offers_av1_first=first)
        peer.negotiation = negotiation
        peer.wants_transport_feedback = True  # layers are chosen by it
        return peer, negotiation
