"""One WebRTC peer connection: ICE, DTLS-SRTP, SCTP and negotiation bundled on one transport."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from rtc import sdp
from rtc.certificates import Certificate
from rtc.dtls import DtlsTransport, RemoteFingerprint
from rtc.fanout import Egress
from rtc.ice.credentials import IceCredentials
from rtc.negotiation import Capabilities, Negotiation
from rtc.net.transport import IceTransport
from rtc.rtp import is_rtcp
from rtc.sctp import DataChannel, SctpTransport
from rtc.sections import LocalTransport
from rtc.srtp import TRAILER_BYTES

IceFactory = Callable[
    [Callable[[bytes], None], Callable[[], None], Callable[[str], None]], IceTransport
]
"""`(on_data, on_selected, on_lost) -> IceTransport`."""


def is_lone_feedback(datagram: bytes) -> bool:
    """Is this SRTCP packet transport-wide feedback and nothing else? Its first eight bytes are in clear."""
    return (
        datagram[1] == 205
        and datagram[0] & 31 == 15
        and 4 * (int.from_bytes(datagram[2:4], "big") + 1) + TRAILER_BYTES >= len(datagram)
    )


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
        self._ice = ice(self._datagram_received, self._path_selected, self._failed)
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
        self._remote: sdp.SessionDescription | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._ended = False
        self.wants_transport_feedback = False
        """Set it where bandwidth is estimated: otherwise such reports, the bulk of all RTCP that an SFU
        gets, are not even decrypted."""
        self.packets_refused = 0
        """SRTP packets that failed authentication, replay check, or came too early."""

    @property
    def connected(self) -> bool:
        return self._dtls.connected and not self._ended

    @property
    def local_candidates(self) -> tuple[str, ...]:
        """Lines without `candidate:` in front."""
        return self._ice.candidate_lines()

    async def create_offer(self) -> str:
        """Our offer. Raises NegotiationError while another one is open."""
        return self.negotiation.create_offer(self._local_transport(self._ice.offered_credentials))

    def restart_ice(self) -> None:
        """Our offers from now on ask for an ICE restart, until one is answered; media goes on meanwhile.

        Call it while no offer is open. An offer that is lost or withdrawn changes nothing.
        """
        self._ice.prepare_restart()

    async def accept_answer(self, text: str) -> None:
        """Raises NegotiationError, SdpError: see rtc.negotiation."""
        answer = self.negotiation.accept_answer(text)
        self._ice.commit_restart()
        self._remote_description(answer)

    async def accept_offer(self, text: str) -> str:
        """Take an offer, return our answer. Raises NegotiationError, SdpError."""
        if self._restart_offered(text):
            self._ice.restart()
        transport = self._local_transport(self._ice.credentials)
        answer, offer = self.negotiation.accept_offer(text, transport)
        self._remote_description(offer)
        return answer

    @property
    def egress(self) -> Egress:
        """The way out for `rtc.fanout`."""
        return self._ice.egress

    @property
    def rtt_s(self) -> float | None:
        """Of the last answered connectivity check."""
        return self._ice.rtt_s

    def refused(self) -> dict[str, int]:
        """How much of what came was of no use so far, by what it was; ask before `close`."""
        found = self._ice.refused() | {"srtp": self.packets_refused}
        return found if self._sctp is None else found | self._sctp.refused()

    async def add_remote_candidate(self, line: str) -> None:
        """Take a candidate at any time; those that come before the description wait for it."""
        self._ice.add_remote_candidate(line)

    def send_rtp(self, packet: bytes) -> None:
        """Encrypt and send; dropped while not connected."""
        outbound = self._dtls.outbound
        protected = None if outbound is None else outbound.protect_rtp(packet)
        if protected is not None:
            self._ice.send(protected)

    def send_rtcp(self, compound: bytes) -> None:
        """Encrypt and send; dropped while not connected."""
        outbound = self._dtls.outbound
        protected = None if outbound is None else outbound.protect_rtcp(compound)
        if protected is not None:
            self._ice.send(protected)

    def forget_stream(self, ssrc: int) -> None:
        """Nothing is sent under this SSRC any more: free what encryption keeps of it."""
        if self._dtls.outbound is not None:
            self._dtls.outbound.forget(ssrc)

    async def close(self) -> None:
        """Say goodbye and free everything; idempotent."""
        self._ended = True
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        sctp, self._sctp = self._sctp, None
        try:
            if sctp is not None:
                await sctp.close()
        finally:
            self._ice.egress.srtp = None
            self._dtls.close()
            self._ice.close()

    def _restart_offered(self, text: str) -> bool:
        """Has the offer other ICE credentials than before (RFC 8445 section 9)?"""
        known = self._ice.remote_credentials
        if known is None or self.negotiation.offering:
            return False
        same = f"a=ice-ufrag:{known.ufrag}\r\n", f"a=ice-pwd:{known.password}\r\n"
        if all(
            line in text for line in same
        ):  # nearly always, and reading hundreds of sections takes ms
            return False
        offered = sdp.parse("offer", text)
        return (offered.ice_ufrag, offered.ice_password) != (known.ufrag, known.password)

    def _local_transport(self, credentials: IceCredentials) -> LocalTransport:
        return LocalTransport(
            ice_ufrag=credentials.ufrag,
            ice_password=credentials.password,
            fingerprint=self._certificate.fingerprint,
            candidates=self._ice.candidate_lines(),
        )

    def _remote_description(self, description: sdp.SessionDescription) -> None:
        if self._remote is None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(self._connect_timeout_s, self._connect_timed_out)
            for section in description.media:
                if section.sctp_port is not None:
                    self._remote_sctp_port = section.sctp_port
        self._remote = description
        self._ice.start(IceCredentials(description.ice_ufrag, description.ice_password))
        for section in description.media:
            for candidate in section.candidates:
                self._ice.add_remote_candidate(candidate)

    def _path_selected(self) -> None:
        if self._remote is None or self._dtls.started:
            return
        self._dtls.start(
            role="client" if self.negotiation.setup == "active" else "server",
            remote=RemoteFingerprint(self._remote.fingerprint_algorithm, self._remote.fingerprint),
        )

    def _connect_timed_out(self) -> None:
        if self._dtls.started:
            self._failed(f"DTLS was not up within {self._connect_timeout_s:g} s")
        else:
            self._failed(f"ICE: no pair worked within {self._connect_timeout_s:g} s")

    def _dtls_connected(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self._dtls.outbound is not None:
            self._ice.egress.srtp = self._dtls.outbound.handle
        self._sctp = SctpTransport(
            self._dtls,
            on_open=self._events.channel_opened,
            on_message=self._events.channel_message,
            on_failed=self._failed,
        )
        self._sctp.start(remote_port=self._remote_sctp_port)
        if self._channel_label is not None:
            self._sctp.create_channel(self._channel_label)
        self._events.peer_connected()

    def _datagram_received(self, datagram: bytes) -> None:
        first = datagram[0] if datagram else 0
        if 128 <= first <= 191:
            inbound = self._dtls.inbound
            if inbound is None:
                pass  # no keys yet
            elif is_rtcp(datagram):
                if not self.wants_transport_feedback and is_lone_feedback(datagram):
                    return
                compound = inbound.unprotect_rtcp(datagram)
                if compound is not None:
                    self._events.rtcp_received(compound)
                    return
            else:
                packet = inbound.unprotect_rtp(datagram)
                if packet is not None:
                    self._events.rtp_received(packet, time.monotonic_ns())
                    return
            self.packets_refused += 1
        elif 20 <= first <= 63:
            self._dtls.receive(datagram)

    def _application_data(self, data: bytes) -> None:
        if self._sctp is not None:
            self._sctp.receive(data)

    def _failed(self, reason: str) -> None:
        if not self._ended:
            self._ended = True
            self._ice.egress.srtp = None
            self._events.peer_failed(reason)
