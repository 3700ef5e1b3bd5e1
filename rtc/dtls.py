"""DTLS 1.2 with SRTP key export (RFC 5764) over pyOpenSSL, driven by datagrams and a timer.

Owns the handshake, the SRTP sessions' keys and the application data under SCTP. The certificate is
self-signed; its fingerprint in the session description is what makes the peer who it claims to be
(RFC 8827 section 6.5).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import pylibsrtp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

DtlsRole = Literal["client", "server"]

_MTU_BYTES = 1200
_DTLS_1_2 = 0xFEFD
_CIPHERS = b":".join(
    [
        b"ECDHE-ECDSA-AES128-GCM-SHA256",
        b"ECDHE-ECDSA-CHACHA20-POLY1305",
        b"ECDHE-RSA-AES128-GCM-SHA256",
        b"ECDHE-ECDSA-AES128-SHA",
        b"ECDHE-ECDSA-AES256-SHA",
    ]
)


@dataclass(frozen=True, slots=True)
class _SrtpProfile:
    name: bytes
    policy_profile: int
    key_bytes: int
    salt_bytes: int


_PROFILES = (
    _SrtpProfile(b"SRTP_AEAD_AES_128_GCM", pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 16, 12),
    _SrtpProfile(
        b"SRTP_AES128_CM_SHA1_80", pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 16, 14
    ),
)
"""GCM first: it costs a third less CPU; browsers may choose either (RFC 7714, RFC 5764)."""


class Certificate:
    """A fresh self-signed P-256 certificate and its DTLS context."""

    def __init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, secrets.token_hex(8))])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .sign(key, hashes.SHA256())
        )
        self.fingerprint = _fingerprint(certificate, "sha-256")
        """SHA-256, upper case, colons: the value of `a=fingerprint:sha-256`."""
        context = SSL.Context(SSL.DTLS_METHOD)
        # Records of DTLS 1.3 look different (split_records), and no browser needs it here.
        context.set_min_proto_version(_DTLS_1_2)
        context.set_max_proto_version(_DTLS_1_2)
        context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_QUERY_MTU)
        # The chain proves nothing; the fingerprint is compared after the handshake.
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        context.use_certificate(certificate)
        context.use_privatekey(key)
        context.set_cipher_list(_CIPHERS)
        context.set_tlsext_use_srtp(b":".join(profile.name for profile in _PROFILES))
        self.context = context


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
        self._inbound: pylibsrtp.Session | None = None
        self._outbound: pylibsrtp.Session | None = None
        self._early: list[bytes] = []

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
        self._read()

    def send_application_data(self, data: bytes) -> None:
        """Encrypt and send; dropped when not connected."""
        if self.connected and not self._over:
            self._ssl.send(data)
            self._flush()

    def unprotect_rtp(self, packet: bytes) -> bytes | None:
        """Decrypt an SRTP packet; None when it is forged, replayed or too early."""
        if self._inbound is None:
            return None
        try:
            return self._inbound.unprotect(packet)
        except pylibsrtp.Error:
            return None

    def unprotect_rtcp(self, packet: bytes) -> bytes | None:
        """Decrypt an SRTCP packet; None when it is forged, replayed or too early."""
        if self._inbound is None:
            return None
        try:
            return self._inbound.unprotect_rtcp(packet)
        except pylibsrtp.Error:
            return None

    def protect_rtp(self, packet: bytes) -> bytes | None:
        """Encrypt an RTP packet; None while there are no keys."""
        return None if self._outbound is None else self._outbound.protect(packet)

    def protect_rtcp(self, packet: bytes) -> bytes | None:
        """Encrypt a compound RTCP packet; None while there are no keys."""
        return None if self._outbound is None else self._outbound.protect_rtcp(packet)

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

    def _read(self) -> None:
        while not self._over:
            try:
                data = self._ssl.recv(65536)
            except SSL.ZeroReturnError:
                self._end()
                self._on_closed()
                return
            except (SSL.WantReadError, SSL.Error):
                break
            self._on_application_data(data)
        self._flush()

    def _flush(self) -> None:
        # Each read returns what one write to the BIO put there; a flight may be several datagrams.
        while True:
            try:
                pending = self._ssl.bio_read(65536)
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
        if certificate is None or self._remote is None:
            return False
        try:
            actual = _fingerprint(certificate, self._remote.algorithm)
        except ValueError:
            return False
        return secrets.compare_digest(actual, self._remote.value.upper())

    def _derive_srtp_sessions(self) -> bool:
        name = self._ssl.get_selected_srtp_profile()
        profile = next((p for p in _PROFILES if p.name == name), None)
        if profile is None:
            return False
        key, salt = profile.key_bytes, profile.salt_bytes
        material = self._ssl.export_keying_material(b"EXTRACTOR-dtls_srtp", 2 * (key + salt))
        client = material[:key] + material[2 * key : 2 * key + salt]
        server = material[key : 2 * key] + material[2 * key + salt :]
        ours, theirs = (client, server) if self._role == "client" else (server, client)
        self._inbound = _srtp_session(profile, theirs, pylibsrtp.Policy.SSRC_ANY_INBOUND)
        self._outbound = _srtp_session(profile, ours, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        return True

    def _fail(self, reason: str) -> None:
        self._end()
        self._on_failed(reason)

    def _end(self) -> None:
        self._over = True
        self._stop_timer()
        self._inbound = self._outbound = None


def split_records(flight: bytes) -> list[bytes]:
    """Cut concatenated DTLS records into datagrams of at most the MTU (RFC 6347 section 4.1)."""
    datagrams: list[bytes] = []
    current = b""
    position = 0
    while position + 13 <= len(flight):
        end = position + 13 + int.from_bytes(flight[position + 11 : position + 13])
        record = flight[position:end]
        if current and len(current) + len(record) > _MTU_BYTES:
            datagrams.append(current)
            current = b""
        current += record
        position = end
    if current:
        datagrams.append(current)
    return datagrams


def _srtp_session(profile: _SrtpProfile, key: bytes, direction: int) -> pylibsrtp.Session:
    policy = pylibsrtp.Policy(key=key, ssrc_type=direction, srtp_profile=profile.policy_profile)
    policy.allow_repeat_tx = True  # retransmissions on NACK repeat a sequence number
    policy.window_size = 1024
    return pylibsrtp.Session(policy)


def _fingerprint(certificate: x509.Certificate, algorithm: str) -> str:
    """Raises ValueError for an algorithm hashlib does not know."""
    der = certificate.public_bytes(serialization.Encoding.DER)
    digest = hashlib.new(algorithm.replace("-", "").lower(), der).digest()
    return ":".join(f"{byte:02X}" for byte in digest)


def _openssl_reason(error: SSL.Error) -> str:
    details = error.args[0] if error.args else None
    if isinstance(details, list) and details:
        return ", ".join(str(entry[-1]) for entry in details)
    return type(error).__name__
