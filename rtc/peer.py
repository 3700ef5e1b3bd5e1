"""One WebRTC peer connection: ICE, DTLS-SRTP, SCTP and negotiation bundled on one transport."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Protocol

from rtc import sdp
from rtc.dtls import Certificate, DtlsTransport, RemoteFingerprint
from rtc.errors import RtcError
from rtc.ice import IceCredentials, IceTransport
from rtc.negotiation import Capabilities, LocalTransport, Negotiation
from rtc.rtp import is_rtcp
from rtc.sctp import DataChannel, SctpTransport

IceFactory = Callable[[Callable[[bytes], None], Callable[[], None]], IceTransport]
"""`(on_data, on_lost) -> IceTransport`."""


class PeerEvents(Protocol):
    """What a peer tells its owner; called from the loop, must not block."""

    def peer_connected(self) -> None:
        """ICE and DTLS are up; media flows."""

    def peer_failed(self, reason: str) -> None:
        """The connection did not come up or was lost; called at most once, `close` is still due."""

    def channel_opened(self, channel: DataChannel) -> None: ...

    def channel_message(self, channel: DataChannel, message: bytes | str) -> None: ...

    def rtp_received(self, packet: bytes, arrival_ns: int) -> None:
        """A decrypted RTP packet; `arrival_ns` on the monotonic clock."""

    def rtcp_received(self, compound: bytes) -> None: ...


class Peer:
    """Use: `negotiation` for sections, `create_offer`/`accept_*` for descriptions, `send_*` for media.

    The transport starts with the first completed exchange; `close` must be awaited in the end.
    """

    def __init__(
        self,
        *,
        ice: IceFactory,
        capabilities: Capabilities,
        events: PeerEvents,
        certificate: Certificate | None = None,
        channel_label: str | None = None,
        connect_timeout_s: float = 30.0,
    ) -> None:
        """`channel_label`: create a data channel of that name once connected (the offerer does)."""
        self.negotiation = Negotiation(capabilities)
        self._certificate = certificate or Certificate()
        self._events = events
        self._channel_label = channel_label
        self._connect_timeout_s = connect_timeout_s
        self._ice = ice(self._datagram_received, self._ice_lost)
        self._dtls = DtlsTransport(
            self._certificate,
            send=self._ice.send,
            on_connected=self._dtls_connected,
            on_failed=self._failed,
            on_application_data=self._application_data,
            on_closed=lambda: self._failed("the other side closed the connection"),
        )
        self._sctp: SctpTransport | None = None
        self._remote_sctp_port = 5000
        self._candidates: tuple[str, ...] = ()
        self._early_candidates: list[str] = []
        self._remote_known = False
        self._connecting: asyncio.Task[None] | None = None
        self._ended = False
        self.packets_refused = 0
        """SRTP packets that failed authentication, replay check, or came too early."""

    @property
    def connected(self) -> bool:
        return self._dtls.connected and not self._ended

    @property
    def local_candidates(self) -> tuple[str, ...]:
        """Known after the first description."""
        return self._candidates

    async def create_offer(self) -> str:
        """Our offer. Raises NegotiationError while another one is open."""
        return self.negotiation.create_offer(await self._local_transport())

    async def accept_answer(self, text: str) -> None:
        """Raises NegotiationError, SdpError: see rtc.negotiation."""
        answer = self.negotiation.accept_answer(text)
        await self._remote_description(answer)

    async def accept_offer(self, text: str) -> str:
        """Take an offer, return our answer. Raises NegotiationError, SdpError."""
        answer, offer = self.negotiation.accept_offer(text, await self._local_transport())
        await self._remote_description(offer)
        return answer

    async def add_remote_candidate(self, line: str) -> None:
        """Candidates that come before the description wait for it (20 at most, as others do)."""
        if self._remote_known:
            await self._ice.add_remote_candidate(line)
        elif len(self._early_candidates) < 20:
            self._early_candidates.append(line)

    def send_rtp(self, packet: bytes) -> None:
        """Encrypt and send; dropped while not connected."""
        protected = self._dtls.protect_rtp(packet)
        if protected is not None:
            self._ice.send(protected)

    def send_rtcp(self, compound: bytes) -> None:
        """Encrypt and send; dropped while not connected."""
        protected = self._dtls.protect_rtcp(compound)
        if protected is not None:
            self._ice.send(protected)

    async def close(self) -> None:
        """Say goodbye and free everything; idempotent."""
        self._ended = True
        if self._connecting is not None:
            self._connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._connecting
            self._connecting = None
        if self._sctp is not None:
            await self._sctp.close()
            self._sctp = None
        self._dtls.close()
        await self._ice.close()

    async def _local_transport(self) -> LocalTransport:
        if not self._candidates:
            self._candidates = tuple(await self._ice.gather())
        credentials = self._ice.credentials
        return LocalTransport(
            ice_ufrag=credentials.ufrag,
            ice_password=credentials.password,
            fingerprint=self._certificate.fingerprint,
            candidates=self._candidates,
        )

    async def _remote_description(self, description: sdp.SessionDescription) -> None:
        if self._remote_known:
            return  # the transport does not change; ICE restarts are refused by keeping the old one
        self._remote_known = True
        for section in description.media:
            if section.sctp_port is not None:
                self._remote_sctp_port = section.sctp_port
            for candidate in section.candidates:
                await self._ice.add_remote_candidate(candidate)
        for candidate in self._early_candidates:
            await self._ice.add_remote_candidate(candidate)
        self._early_candidates.clear()
        self._connecting = asyncio.create_task(self._connect(description), name="peer-connect")

    async def _connect(self, description: sdp.SessionDescription) -> None:
        credentials = IceCredentials(description.ice_ufrag, description.ice_password)
        try:
            await self._ice.connect(credentials, timeout_s=self._connect_timeout_s)
        except RtcError as error:
            self._failed(str(error))
            return
        self._dtls.start(
            role="client" if self.negotiation.setup == "active" else "server",
            remote=RemoteFingerprint(description.fingerprint_algorithm, description.fingerprint),
        )
        await asyncio.sleep(self._connect_timeout_s)
        if not self._dtls.connected:
            self._failed(f"DTLS was not up within {self._connect_timeout_s:g} s")

    def _dtls_connected(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        self._sctp = SctpTransport(
            self._dtls,
            on_open=self._events.channel_opened,
            on_message=self._events.channel_message,
        )
        self._sctp.start(remote_port=self._remote_sctp_port)
        if self._channel_label is not None:
            self._sctp.create_channel(self._channel_label)
        self._events.peer_connected()

    def _datagram_received(self, datagram: bytes) -> None:
        first = datagram[0] if datagram else 0
        if 128 <= first <= 191:
            if is_rtcp(datagram):
                compound = self._dtls.unprotect_rtcp(datagram)
                if compound is not None:
                    self._events.rtcp_received(compound)
                    return
            else:
                packet = self._dtls.unprotect_rtp(datagram)
                if packet is not None:
                    self._events.rtp_received(packet, time.monotonic_ns())
                    return
            self.packets_refused += 1
        elif 20 <= first <= 63:
            self._dtls.receive(datagram)

    def _application_data(self, data: bytes) -> None:
        if self._sctp is not None:
            self._sctp.receive(data)

    def _ice_lost(self) -> None:
        self._failed("ICE: the other side stopped answering")

    def _failed(self, reason: str) -> None:
        if not self._ended:
            self._ended = True
            self._events.peer_failed(reason)
