"""The self-signed certificates of this side, each with its DTLS context.

The chain proves nothing: the fingerprint in the session description makes the peer who it claims to be
(RFC 8827 section 6.5).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from rtc.srtp import PROFILES

_DTLS_1_2 = 0xFEFD
_VALID_DAYS = 30
_RENEW_S = 24 * 3600.0
FINGERPRINTS = ("sha-256", "sha-384", "sha-512")
"""RFC 8122 section 5, without those that are broken."""
_CIPHERS = b":".join(
    [
        b"ECDHE-ECDSA-AES128-GCM-SHA256",
        b"ECDHE-ECDSA-AES256-GCM-SHA384",
        b"ECDHE-ECDSA-CHACHA20-POLY1305",
        b"ECDHE-RSA-AES128-GCM-SHA256",
        b"ECDHE-ECDSA-AES128-SHA",
        b"ECDHE-ECDSA-AES256-SHA",
    ]
)


class Certificate:
    """A fresh self-signed P-256 certificate and its DTLS context, for a month."""

    def __init__(self, *, hello_verify: bool = True) -> None:
        """`hello_verify`: as DTLS server, have clients prove their address by a cookie before anything
        else (RFC 6347 section 4.2.1)."""
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
            .not_valid_after(now + timedelta(days=_VALID_DAYS))
            .sign(key, hashes.SHA256())
        )
        self.fingerprint = fingerprint(certificate, "sha-256")
        """SHA-256, upper case, colons: the value of `a=fingerprint:sha-256`."""
        context = SSL.Context(SSL.DTLS_METHOD)
        # Records of DTLS 1.3 look different (split_records), and no browser needs it here.
        context.set_min_proto_version(_DTLS_1_2)
        context.set_max_proto_version(_DTLS_1_2)
        # SRTP keys are exported once: a second handshake would only take time.
        context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_QUERY_MTU | SSL.OP_NO_RENEGOTIATION)
        if hello_verify:
            secret = secrets.token_bytes(16)
            context.set_options(SSL.OP_COOKIE_EXCHANGE or 0)
            context.set_cookie_generate_callback(lambda ssl: _cookie(secret, ssl))
            context.set_cookie_verify_callback(
                lambda ssl, cookie: hmac.compare_digest(_cookie(secret, ssl), cookie)
            )
        # The chain proves nothing; the fingerprint is compared after the handshake.
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
        context.use_certificate(certificate)
        context.use_privatekey(key)
        context.set_cipher_list(_CIPHERS)
        context.set_tlsext_use_srtp(b":".join(profile.name for profile in PROFILES))
        self.context = context


class CertificateSource:
    """One certificate for all connections of a process, another one each day: it must never run out."""

    def __init__(
        self, *, hello_verify: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock`: seconds."""
        self._hello_verify = hello_verify
        self._clock = clock
        self._made_s = 0.0
        self._certificate: Certificate | None = None

    def current(self) -> Certificate:
        """For a connection that begins now; those that run keep theirs."""
        now_s = self._clock()
        if self._certificate is None or now_s - self._made_s >= _RENEW_S:
            self._certificate = Certificate(hello_verify=self._hello_verify)
            self._made_s = now_s
        return self._certificate


def fingerprint(certificate: x509.Certificate, algorithm: str) -> str:
    """`algorithm`: one of FINGERPRINTS."""
    der = certificate.public_bytes(serialization.Encoding.DER)
    digest = hashlib.new(algorithm.replace("-", ""), der).digest()
    return ":".join(f"{byte:02X}" for byte in digest)


def _cookie(secret: bytes, ssl: SSL.Connection) -> bytes:
    """Bound to the connection, which is one source address to us: ICE has sorted the datagrams."""
    return hmac.digest(secret, ssl.get_app_data(), "sha256")
