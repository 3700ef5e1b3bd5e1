"""A published track: how it is offered; encoded payloads in, RTP packets out."""

from __future__ import annotations

import random
import secrets
import string
import time
from collections.abc import Callable

from rtc.ntp import ntp_from_unix
from rtc.rtcp import build_sender_report
from rtc.rtp import build_rtp
from rtc.sdp import Msid
from rtc.sections import LocalMedia

_NS = 1_000_000_000
_STREAM_ID_LETTERS = string.ascii_lowercase + string.digits


def new_stream_id() -> str:
    """Of an msid stream; nobody can guess it."""
    return "".join(secrets.choice(_STREAM_ID_LETTERS) for _ in range(20))


def new_local_media(stream_id: str, *, cname: str) -> LocalMedia:
    """One more track of that msid stream, with an SSRC of its own. `cname`: whose it is (RFC 3550 6.5.1)."""
    msid = Msid(stream_id, new_stream_id())
    return LocalMedia(msid=msid, ssrc=secrets.randbits(32), cname=cname)


class LocalTrack:
    """Made by CallClient's publishing methods; its owner paces it."""

    def __init__(
        self,
        *,
        ssrc: int,
        payload_type: int,
        clock_rate_hz: int,
        audio_level_id: int | None,
        send_rtp: Callable[[bytes], None],
    ) -> None:
        self.ssrc = ssrc
        self._payload_type = payload_type
        self._clock_rate_hz = clock_rate_hz
        self._audio_level_id = audio_level_id
        self._send_rtp = send_rtp
        self._sequence = random.getrandbits(15)
        self._packets = self._octets = 0
        self._last: tuple[int, int] | None = None
        self._key_frame_wanted = False

    def send(
        self, payload: bytes, *, rtp_timestamp: int, marker: bool, audio_level: int | None = None
    ) -> None:
        """Send one RTP packet now. `audio_level`: −dBov, 0 loud to 127 silent (RFC 6464)."""
        extensions: tuple[tuple[int, bytes], ...] = ()
        if audio_level is not None and self._audio_level_id is not None:
            extensions = ((self._audio_level_id, bytes([audio_level & 0x7F])),)
        self._send_rtp(
            build_rtp(
                payload,
                payload_type=self._payload_type,
                sequence=self._sequence,
                timestamp=rtp_timestamp,
                ssrc=self.ssrc,
                marker=marker,
                extensions=extensions,
            )
        )
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._packets += 1
        self._octets += len(payload)
        self._last = (rtp_timestamp, time.monotonic_ns())

    @property
    def key_frame_wanted(self) -> bool:
        """True once after the SFU asked for a key frame; reading it clears it."""
        wanted, self._key_frame_wanted = self._key_frame_wanted, False
        return wanted

    def key_frame_requested(self) -> None:
        """The SFU sent a PLI or FIR for this track."""
        self._key_frame_wanted = True

    def sender_report(self, unix_time_ns: int, monotonic_ns: int) -> bytes | None:
        """An RTCP SR for now; None before the first packet. RTP time goes on from the last packet."""
        if self._last is None:
            return None
        rtp_timestamp, sent_ns = self._last
        elapsed_ticks = (monotonic_ns - sent_ns) * self._clock_rate_hz // _NS
        return build_sender_report(
            ssrc=self.ssrc,
            ntp=ntp_from_unix(unix_time_ns),
            rtp_timestamp=rtp_timestamp + elapsed_ticks,
            packets=self._packets,
            octets=self._octets,
        )
