"""DTLS 1.2 with SRTP key export (RFC 5764) over pyOpenSSL, driven by datagrams and a timer.

Owns the handshake, the SRTP sessions' keys and the application data under SCTP. The certificate is
self-signed; its fingerprint in the session description is what makes the peer who it claims to be
(RFC 8827 section 6.5).
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from OpenSSL import SSL

from rtc.certificates import FINGERPRINTS, Certificate, fingerprint
from rtc.srtp import PROFILES, SrtpContext

DtlsRole = Literal["client", "server"]

_MTU_BYTES = 1200
_APPLICATION_DATA = b"\x17"
_HEADER_BYTES = 13
_MAX_PLAIN_BYTES = 16_384
"""Of a record (RFC 5246 section 6.2.1)."""
_EXPANSION_BYTES = 256
"""More than any cipher adds to a record, its header included."""
_FLIGHT_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class RemoteFingerprint:
    """`a=fingerprint` of the other side."""

    algorithm: str
    value: str


class DtlsTransport:
    """One DTLS association.

    Callbacks, all called from the loop: `send(datagram)`, `on_connected()` after the handshake with the
    right fingerprint, `on_failed(reason)` once, `on_application_data(bytes)`, `on_closed()` when the
    other side says goodbye.
    """

    def __init__(
        self,
        certificate: Certificate,
        *,
        send: Callable[[bytes], None],
        on_connected: Callable[[], None],
        on_failed: Callable[[str], None],
        on_application_data: Callable[[bytes], None],
        on_closed: Callable[[], None],
    ) -> None:
        self._ssl = SSL.Connection(certificate.context)
        self._ssl.set_app_data(secrets.token_bytes(16))
        self._ssl.set_ciphertext_mtu(_MTU_BYTES)
        self._send = send
        self._on_connected = on_connected
        self._on_failed = on_failed
        self._on_application_data = on_application_data
        self._on_closed = on_closed
        self._role: DtlsRole = "client"
        self._remote: RemoteFingerprint | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._started = self._over = False
        self.connected = False
        self._inbound: SrtpContext | None = None
        self._outbound: SrtpContext | None = None
        self._early: list[bytes] = []

    @property
    def started(self) -> bool:
        """Once `start` was called, also after the end."""
        return self._started

    @property
    def role(self) -> DtlsRole:
        return self._role

    def start(self, *, role: DtlsRole, remote: RemoteFingerprint) -> None:
        """Begin the handshake; ICE must be able to send."""
        self._role = role
        self._remote = remote
        self._started = True
        if role == "server":
            self._ssl.set_accept_state()
        else:
            self._ssl.set_connect_state()
        self._handshake()
        early, self._early = self._early, []
        for datagram in early:
            self.receive(datagram)

    def receive(self, datagram: bytes) -> None:
        """A DTLS datagram arrived."""
        if self._over:
            return
        if not self._started:
            if len(self._early) < 8:  # the other side may be quicker by one flight
                self._early.append(datagram)
            return
        self._ssl.bio_write(datagram)
        if not self.connected:
            self._handshake()
            if not self.connected:
                return
        self._read(alone=is_lone_application_record(datagram))

    def send_application_data(self, data: bytes) -> None:
        """Encrypt and send; dropped when not connected."""
        if self.connected and not self._over:
            try:
                self._ssl.send(data)
            except SSL.Error:  # too long for a record, or after a goodbye
                self._flush()
            else:
                # One record, as one datagram: to look for more raises an exception, and those cost.
                self._send(self._ssl.bio_read(len(data) + _EXPANSION_BYTES))

    @property
    def inbound(self) -> SrtpContext | None:
        """Decrypts what the other side sends; None while there are no keys."""
        return self._inbound

    @property
    def outbound(self) -> SrtpContext | None:
        """Encrypts what we send; None while there are no keys."""
        return self._outbound

    def close(self) -> None:
        """Say goodbye if connected and forget the keys; idempotent."""
        if self._over:
            return
        if self.connected:
            with contextlib.suppress(SSL.Error):
                self._ssl.shutdown()
            self._flush()
        self._end()

    def _handshake(self) -> None:
        try:
            self._ssl.do_handshake()
        except SSL.WantReadError:
            self._flush()
            self._arm_timer()
            return
        except SSL.Error as error:
            self._flush()
            self._fail(f"DTLS handshake failed: {_openssl_reason(error)}")
            return
        self._flush()
        self._stop_timer()
        if not self._fingerprint_matches():
            self._fail("DTLS handshake failed: the peer's fingerprint is not the signaled one")
            return
        if not self._derive_srtp_sessions():
            self._fail("DTLS handshake failed: no common SRTP profile")
            return
        self.connected = True
        self._on_connected()

    def _read(self, *, alone: bool) -> None:
        """All that came; `alone`: one record of data. Nothing comes after it, nothing is said to it."""
        while not self._over:
            try:
                data = self._ssl.recv(_MAX_PLAIN_BYTES)
            except SSL.ZeroReturnError:
                self._end()
                self._on_closed()
                return
            except SSL.WantReadError:
                break
            except SSL.Error:
                # A fatal alert, authenticated like everything here: nothing comes after it.
                self._flush()
                self._end()
                self._on_closed()
                return
            self._on_application_data(data)
            if alone:
                return
        self._flush()

    def _flush(self) -> None:
        # Each read returns what one write to the BIO put there; a flight may be several datagrams.
        while True:
            try:
                pending = self._ssl.bio_read(_FLIGHT_BYTES)
            except SSL.Error:
                return
            for datagram in split_records(pending):
                self._send(datagram)

    def _arm_timer(self) -> None:
        self._stop_timer()
        timeout_s = self._ssl.DTLSv1_get_timeout()
        if timeout_s is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(timeout_s + 0.001, self._retransmit)

    def _retransmit(self) -> None:
        if self._over or self.connected:
            return
        try:
            self._ssl.DTLSv1_handle_timeout()
        except SSL.Error as error:
            self._fail(f"DTLS handshake failed: {_openssl_reason(error)}")
            return
        self._flush()
        self._arm_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fingerprint_matches(self) -> bool:
        certificate = self._ssl.get_peer_certificate(as_cryptography=True)
        remote = self._remote
        if certificate is None or remote is None or remote.algorithm.lower() not in FINGERPRINTS:
            return False
        actual = fingerprint(certificate, remote.algorithm.lower())
        return hmac.compare_digest(actual.encode(), remote.value.upper().encode())

    def _derive_srtp_sessions(self) -> bool:
        name = self._ssl.get_selected_srtp_profile()
        profile = next((p for p in PROFILES if p.name == name), None)
        if profile is None:
            return False
        key, salt = profile.key_bytes, profile.salt_bytes
        material = self._ssl.export_keying_material(b"EXTRACTOR-dtls_srtp", 2 * (key + salt))
        client = material[:key] + material[2 * key : 2 * key + salt]
        server = material[key : 2 * key] + material[2 * key + salt :]
        ours, theirs = (client, server) if self._role == "client" else (server, client)
        self._inbound = SrtpContext(profile, theirs, "inbound")
        self._outbound = SrtpContext(profile, ours, "outbound")
        return True

    def _fail(self, reason: str) -> None:
        self._end()
        self._on_failed(reason)

    def _end(self) -> None:
        self._over = True
        self._stop_timer()
        self._inbound = self._outbound = None


def is_lone_application_record(datagram: bytes) -> bool:
    """Does it say that it is one record of application data, and nothing else? (RFC 6347 section 4.1)."""
    return datagram[:1] == _APPLICATION_DATA and int.from_bytes(
        datagram[11:13]
    ) + _HEADER_BYTES == len(datagram)


def split_records(flight: bytes) -> list[bytes]:
    """Cut concatenated DTLS records into datagrams of at most the MTU (RFC 6347 section 4.1)."""
    datagrams: list[bytes] = []
    current = b""
    position = 0
    while position + _HEADER_BYTES <= len(flight):
        end = position + _HEADER_BYTES + int.from_bytes(flight[position + 11 : position + 13])
        record = flight[position:end]
        if current and len(current) + len(record) > _MTU_BYTES:
            datagrams.append(current)
            current = b""
        current += record
        position = end
    if current:
        datagrams.append(current)
    return datagrams


def _openssl_reason(error: SSL.Error) -> str:
    details = error.args[0] if error.args else None
    if isinstance(details, list) and details:
        return ", ".join(str(entry[-1]) for entry in details)
    return type(error).__name__
