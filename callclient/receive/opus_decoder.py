"""libopus itself: decoding with concealment and in-band FEC, which FFmpeg's wrapper of it leaves out.

FFmpeg calls `opus_multistream_decode` with `decode_fec` 0 always and takes an empty packet for the end of
the stream, so neither can be had through PyAV. Its wheels bring the library along all the same.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
from array import array
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from rtc.opus import packet_samples

_OPUS_HZ: Final = 48_000
"""What Opus counts in, whatever it is decoded to."""
_MAX_SAMPLES: Final = 5760
"""120 ms at 48 kHz, the longest packet."""
_STEPS_PER_S: Final = 400
_CONCEAL_STEPS: Final = 8
_LONGEST_CONCEALMENT_STEPS: Final = 80
_FADE_STEPS: Final = 8


class OpusUnavailable(Exception):
    """There is no libopus on this host."""


class OpusError(Exception):
    """A packet that cannot be decoded."""


class OpusDecoder:
    """One mono stream. Packets in order; blocking, owned by one thread.

    Raises:
        OpusUnavailable: no library. Decode through PyAV then, without concealment.
    """

    def __init__(self, rate_hz: int = _OPUS_HZ) -> None:
        """`rate_hz`: of all samples here; 48000, 24000, 16000, 12000 or 8000 (RFC 6716 section 2)."""
        self._library = _library()
        self._rate_hz = rate_hz
        self.step = rate_hz // _STEPS_PER_S
        """2.5 ms in samples: sound that is made up is a multiple of it."""
        code = ctypes.c_int()
        self._state = self._library.opus_decoder_create(rate_hz, 1, ctypes.byref(code))
        if not self._state:
            raise OpusUnavailable(f"libopus makes no decoder: error {code.value}")
        self._pcm = (ctypes.c_float * _MAX_SAMPLES)()

    def __del__(self) -> None:
        if getattr(self, "_state", None):
            self._library.opus_decoder_destroy(self._state)

    def decode(self, payload: bytes) -> bytes:
        """The packet's sound: native float32 samples, ±1.

        Raises:
            OpusError: it is broken.
        """
        return self._run(payload, _MAX_SAMPLES, fec=False)

    def recover(self, next_payload: bytes, samples: int) -> bytes:
        """The `samples` before a packet, from the copy in it; concealment where it has none.

        `samples`: a multiple of `step`, at most 120 ms. Then decode the packet itself.

        Raises:
            OpusError: it is broken.
        """
        return self._run(next_payload, samples, fec=True)

    def conceal(self, samples: int) -> bytes:
        """`samples` (a multiple of `step`) that go on from what was heard, fading into noise."""
        parts: list[bytes] = []
        while samples > 0:
            count = min(samples, _CONCEAL_STEPS * self.step)
            parts.append(self._run(None, count, fec=False))
            samples -= count
        return b"".join(parts)

    def fill(self, payload: bytes, lost_samples: int, *, repairs: bool) -> bytes:
        """Sound for what was lost before `payload`, its last packet from the copy if there is one.

        Rounded down to 2.5 ms; silence after the first 200 ms, because a hum that goes on is worse.
        `repairs`: `EncodedFrame.repairs_loss`. Then decode the packet itself.

        Raises:
            OpusError: the packet is broken.
        """
        lost_samples -= lost_samples % self.step
        in_packet = packet_samples(payload) * self._rate_hz // _OPUS_HZ if repairs else 0
        copied = min(lost_samples, in_packet)
        silent = max(0, lost_samples - copied - _LONGEST_CONCEALMENT_STEPS * self.step)
        filled = self.conceal(lost_samples - copied - silent)
        if silent:
            filled = _faded(filled, _FADE_STEPS * self.step) + bytes(4 * silent)
        return filled + self.recover(payload, copied) if copied else filled

    def _run(self, payload: bytes | None, samples: int, *, fec: bool) -> bytes:
        got = self._library.opus_decode_float(
            self._state, payload, len(payload or b""), self._pcm, samples, int(fec)
        )
        if got < 0:
            raise OpusError(f"libopus: error {got}")
        return ctypes.string_at(self._pcm, 4 * got)


def library_has_redundancy(payload: bytes) -> bool:
    """libopus' own answer to `rtc.opus.has_redundancy` (since 1.5).

    Raises:
        OpusUnavailable: no library.
    """
    return bool(_library().opus_packet_has_lbrr(payload, len(payload)) == 1)


def _faded(pcm: bytes, length: int) -> bytes:
    """With the last `length` samples turned down to nothing."""
    samples = array("f", pcm)
    start = max(0, len(samples) - length)
    for index in range(start, len(samples)):
        samples[index] *= (len(samples) - index) / length
    return samples.tobytes()


@functools.cache
def _library() -> ctypes.CDLL:
    for name in _candidates():
        try:
            library = ctypes.CDLL(name)
            library.opus_decoder_create.restype = ctypes.c_void_p
            library.opus_decoder_create.argtypes = [
                ctypes.c_int32, ctypes.c_int, ctypes.POINTER(ctypes.c_int),
            ]  # fmt: skip
            library.opus_decoder_destroy.restype = None
            library.opus_decoder_destroy.argtypes = [ctypes.c_void_p]
            library.opus_decode_float.argtypes = [
                ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32,
                ctypes.POINTER(ctypes.c_float), ctypes.c_int, ctypes.c_int,
            ]  # fmt: skip
        except (OSError, AttributeError):
            continue
        return library
    raise OpusUnavailable("no libopus: neither in PyAV's wheel nor on the system")


def _candidates() -> Iterator[str]:
    spec = find_spec("av")
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        for path in sorted((Path(place).parent / "av.libs").glob("libopus-*.so*")):
            yield str(path)
    system = ctypes.util.find_library("opus")
    if system is not None:
        yield system
    yield "libopus.so.0"
