"""Data channels over SCTP (RFC 8831): aiortc's association behind a small synchronous face."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, cast

from aiortc.rtcdatachannel import RTCDataChannel, RTCDataChannelParameters
from aiortc.rtcsctptransport import RTCSctpCapabilities, RTCSctpTransport

from foundation.channel import Channel, ChannelClosed, Overflow
from foundation.logs import get_logger
from rtc.dtls import DtlsTransport

SCTP_PORT = 5000
MAX_MESSAGE_BYTES = 65536 * 4
_INBOUND_CAPACITY = 1024


class DataChannel:
    """One open or opening channel. Messages are bytes, or text from old clients."""

    def __init__(self, channel: RTCDataChannel) -> None:
        self._channel = channel

    @property
    def label(self) -> str:
        return str(self._channel.label)

    @property
    def open(self) -> bool:
        return bool(self._channel.readyState == "open")

    def send(self, message: bytes | str) -> bool:
        """Queue a message; False when the channel is not open."""
        if not self.open:
            return False
        self._channel.send(message)
        return True


class _DtlsFacade:
    """What RTCSctpTransport uses of an RTCDtlsTransport."""

    def __init__(self, dtls: DtlsTransport) -> None:
        self._dtls = dtls
        self.receiver: Any = None
        self.state = "connected"

    @property
    def _role(self) -> str:
        return self._dtls.role

    def _register_data_receiver(self, receiver: Any) -> None:
        self.receiver = receiver

    def _unregister_data_receiver(self, receiver: Any) -> None:
        self.receiver = None

    async def _send_data(self, data: bytes) -> None:
        self._dtls.send_application_data(data)


class SctpTransport:
    """The association of one peer connection.

    `on_open(channel)` is called when a channel opens, whoever made it; `on_message(channel, message)`
    for each message.
    """

    def __init__(
        self,
        dtls: DtlsTransport,
        *,
        on_open: Callable[[DataChannel], None],
        on_message: Callable[[DataChannel, bytes | str], None],
    ) -> None:
        self._facade = cast(Any, _DtlsFacade(dtls))
        self._on_open = on_open
        self._on_message = on_message
        self._association = RTCSctpTransport(self._facade, port=SCTP_PORT)
        self._association.on("datachannel", self._adopt)
        # Packets arrive in the socket callback, aiortc handles them in coroutines: one worker, in order.
        self._inbound: Channel[bytes] = Channel(_INBOUND_CAPACITY, overflow=Overflow.DROP_OLDEST)
        self._worker: asyncio.Task[None] | None = None
        self._log = get_logger(component="sctp")

    def create_channel(self, label: str) -> None:
        """Announce an ordered, reliable channel; `on_open` tells when it is open. After `start`."""
        channel = RTCDataChannel(self._association, RTCDataChannelParameters(label=label))
        self._adopt(channel)

    def start(self, *, remote_port: int) -> None:
        """Set the association up; DTLS must be connected."""
        self._worker = asyncio.create_task(self._run(remote_port), name="sctp")

    def receive(self, packet: bytes) -> None:
        """An SCTP packet came out of DTLS."""
        with contextlib.suppress(ChannelClosed):
            self._inbound.offer(packet)

    async def close(self) -> None:
        """Abort the association; idempotent."""
        self._inbound.close()
        if self._worker is not None:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
            self._worker = None
            await self._association.stop()

    async def _run(self, remote_port: int) -> None:
        capabilities = RTCSctpCapabilities(maxMessageSize=MAX_MESSAGE_BYTES)
        await self._association.start(capabilities, remote_port)
        async for packet in self._inbound:
            if self._facade.receiver is None:
                continue
            try:
                await self._facade.receiver._handle_data(packet)
            except Exception as error:  # noqa: BLE001 - aiortc's parser asserts on foreign bytes
                self._log.warning("sctp.packet_refused", error=type(error).__name__)

    def _adopt(self, channel: RTCDataChannel) -> None:
        face = DataChannel(channel)
        channel.on("message", lambda message: self._on_message(face, message))
        if face.open:
            self._on_open(face)
        else:
            channel.on("open", lambda: self._on_open(face))
