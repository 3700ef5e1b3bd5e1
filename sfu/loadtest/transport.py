"""How the participants reach the network, and how packets get lost on the way. The one place for it."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

from rtc.net.client_network import client_transport
from rtc.net.transport import IceTransport
from rtc.peer import IceFactory
from rtc.rtp import is_rtcp


def ice_factory(local_address: str, *, tcp: bool = False, loss: float = 0.0) -> IceFactory:
    """Sockets of its own for each participant; `loss` (0–1) of the incoming media is thrown away unread.

    Before decryption, or a repeated packet would look like a replayed one.
    """

    def make(
        on_data: Callable[[bytes], None],
        on_selected: Callable[[], None],
        on_lost: Callable[[str], None],
    ) -> IceTransport:
        return client_transport(
            controlling=True,
            on_data=lossy_receive(on_data, loss) if loss else on_data,
            on_selected=on_selected,
            on_lost=on_lost,
            addresses=[local_address],
            udp=not tcp,
            tcp=tcp,
        )

    return make


def lossy_send(send: Callable[[bytes], None], loss: float) -> Callable[[bytes], None]:
    """Throw a share of what is sent away. The SFU sees a gap, as behind a lossy line."""

    def send_or_lose(packet: bytes) -> None:
        if random.random() >= loss:
            send(packet)

    return send_or_lose


def local_address_towards(url: str) -> str:
    """This host's address that reaches the SFU.

    Raises:
        OSError: the host name does not resolve, or there is no way there.
    """
    parts = urlsplit(url)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((parts.hostname or "127.0.0.1", parts.port or 80))
        return str(probe.getsockname()[0])


def lossy_receive(on_data: Callable[[bytes], None], loss: float) -> Callable[[bytes], None]:
    """Throw a share of the incoming RTP away; RTCP, STUN and DTLS all come through."""

    def data_or_nothing(datagram: bytes) -> None:
        is_media = bool(datagram) and 128 <= datagram[0] <= 191 and not is_rtcp(datagram)
        if not is_media or random.random() >= loss:
            on_data(datagram)

    return data_or_nothing
