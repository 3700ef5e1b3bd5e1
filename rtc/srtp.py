"""SRTP and SRTCP (RFC 3711, RFC 7714) on libsrtp, on raw buffers.

pylibsrtp's own `Session` copies each packet through a 1500-byte buffer and refuses what would not fit
with the longest trailer there is (more than 1356 bytes). Here every call works in one buffer of this
module; the fan-out encrypts in a buffer of its own. Only the loop's thread may call any of it.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any, Literal

import pylibsrtp
from pylibsrtp import _binding

MAX_PACKET_BYTES = 2048
"""Longer datagrams are no packets of ours: media keeps to the MTU."""
TRAILER_BYTES = 4 + 16
"""SRTCP index and the longest tag of our profiles."""
MAX_STREAMS = 1024
"""SSRCs that one direction holds state for: at most twice as many."""

lib: Any = _binding.lib
ffi: Any = _binding.ffi

_OK: int = lib.srtp_err_status_ok
_data: Any = ffi.new("unsigned char[]", MAX_PACKET_BYTES + TRAILER_BYTES)
_view: Any = ffi.buffer(_data)
_length: Any = ffi.new("int *")


@dataclass(frozen=True, slots=True)
class SrtpProfile:
    """A protection profile as DTLS-SRTP names it (RFC 5764 section 4.1.2)."""

    name: bytes
    policy_profile: int
    key_bytes: int
    salt_bytes: int

    @property
    def material_bytes(self) -> int:
        """Master key and salt of one direction."""
        return self.key_bytes + self.salt_bytes


PROFILES = (
    SrtpProfile(b"SRTP_AEAD_AES_128_GCM", pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 16, 12),
    SrtpProfile(b"SRTP_AEAD_AES_256_GCM", pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 32, 12),
    SrtpProfile(b"SRTP_AES128_CM_SHA1_80", pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 16, 14),
)
"""GCM first: it costs a third less CPU; browsers may choose either."""


class SrtpContext:
    """The keys of one direction: `outbound` protects, `inbound` unprotects."""

    __slots__ = ("_idle", "_streams", "handle")

    def __init__(
        self, profile: SrtpProfile, material: bytes, direction: Literal["inbound", "outbound"]
    ) -> None:
        """`material`: master key and salt, `profile.material_bytes` long."""
        policy = pylibsrtp.Policy(
            key=material,
            ssrc_type=(
                pylibsrtp.Policy.SSRC_ANY_OUTBOUND
                if direction == "outbound"
                else pylibsrtp.Policy.SSRC_ANY_INBOUND
            ),
            srtp_profile=profile.policy_profile,
        )
        policy.allow_repeat_tx = True  # retransmissions on NACK repeat a sequence number
        policy.window_size = 1024
        reference = ffi.new("srtp_t *")
        if lib.srtp_create(reference, policy._policy) != _OK:
            raise ValueError(f"libsrtp refused the keys of profile {profile.name.decode()}")
        self.handle: Any = ffi.gc(reference[0], lib.srtp_dealloc)
        """libsrtp's `srtp_t`: freed when nobody holds it any more, neither this object nor a sender."""
        self._streams: set[bytes] = set()
        self._idle: set[bytes] = set()

    def protect_rtp(self, packet: bytes) -> bytes | None:
        """Encrypt; None for what is too long or no RTP."""
        return self._run(lib.srtp_protect, packet)

    def protect_rtcp(self, packet: bytes) -> bytes | None:
        """Encrypt a compound; None for what is too long or no RTCP."""
        return self._run(lib.srtp_protect_rtcp, packet)

    def unprotect_rtp(self, packet: bytes) -> bytes | None:
        """Decrypt; None when it is forged, replayed or too long."""
        result = self._run(lib.srtp_unprotect, packet)
        if result is not None and packet[8:12] not in self._streams:
            self._stream_seen(packet[8:12])
        return result

    def unprotect_rtcp(self, packet: bytes) -> bytes | None:
        """Decrypt; None when it is forged, replayed or too long."""
        result = self._run(lib.srtp_unprotect_rtcp, packet)
        if result is not None and packet[4:8] not in self._streams:
            self._stream_seen(packet[4:8])
        return result

    def forget(self, ssrc: int) -> None:
        """Free what is kept for a stream that has ended; unknown ones are fine."""
        # The binding wants the number as it stands in memory, that is in network order.
        lib.srtp_remove_stream(self.handle, socket.htonl(ssrc))

    def _stream_seen(self, ssrc: bytes) -> None:
        """libsrtp keeps a kilobyte for each SSRC and looks through all of them for each packet: an other side
        that makes up SSRCs must not cost more and more. Those not heard of for longest are forgotten."""
        self._idle.discard(ssrc)
        if len(self._streams) >= MAX_STREAMS:
            for idle in self._idle:
                self.forget(int.from_bytes(idle, "big"))
            self._idle, self._streams = self._streams, set()
        self._streams.add(ssrc)

    def _run(self, function: Any, packet: bytes) -> bytes | None:
        length = len(packet)
        if length > MAX_PACKET_BYTES:
            return None
        _view[0:length] = packet
        _length[0] = length
        if function(self.handle, _data, _length) != _OK:
            return None
        result: bytes = _view[0 : _length[0]]
        return result
