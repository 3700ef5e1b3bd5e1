"""libopus: concealment and in-band FEC."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callclient.receive import opus_decoder
from callclient.receive.opus_decoder import OpusDecoder, OpusError, library_has_redundancy
from rtc.opus import has_redundancy

_SET_INBAND_FEC, _SET_PACKET_LOSS, _SET_BANDWIDTH = 4012, 4014, 4008
_WIDEBAND = 1103
_VOIP = 2048
FRAME = 960


def sound(seconds: float) -> np.ndarray:
    """Something between speech and a tone: a gliding, throbbing hum."""
    t = np.arange(round(48_000 * seconds)) / 48_000
    phase = 2 * np.pi * (150 * t + 5 * np.sin(2 * np.pi * 0.7 * t))
    throb = 0.6 + 0.4 * np.sin(2 * np.pi * 3 * t)
    return (0.3 * throb * sum(np.sin(k * phase) / k for k in range(1, 9))).astype(np.float32)


@pytest.fixture(scope="module")
def encode() -> Callable[..., list[bytes]]:
    """Opus as browsers send it, with or without in-band FEC."""
    library = opus_decoder._library()
    library.opus_encoder_create.restype = ctypes.c_void_p

    def make(samples: np.ndarray, *, fec: bool, wideband: bool = True) -> list[bytes]:
        code = ctypes.c_int()
        encoder = ctypes.c_void_p(library.opus_encoder_create(48_000, 1, _VOIP, ctypes.byref(code)))
        library.opus_encoder_ctl(encoder, _SET_INBAND_FEC, ctypes.c_int(int(fec)))
        library.opus_encoder_ctl(encoder, _SET_PACKET_LOSS, ctypes.c_int(20))
        if wideband:
            library.opus_encoder_ctl(encoder, _SET_BANDWIDTH, ctypes.c_int(_WIDEBAND))
        out = ctypes.create_string_buffer(1500)
        packets = []
        for start in range(0, len(samples) - FRAME + 1, FRAME):
            block = np.ascontiguousarray(samples[start : start + FRAME])
            pointer = block.ctypes.data_as(ctypes.c_void_p)
            size = library.opus_encode_float(encoder, pointer, FRAME, out, 1500)
            packets.append(out.raw[:size])
        library.opus_encoder_destroy(encoder)
        return packets

    return make


def floats(pcm: bytes) -> np.ndarray:
    return np.frombuffer(pcm, np.float32)


def loudness(part: np.ndarray) -> float:
    return float(np.sqrt(np.mean(part**2)))


def error_of(part: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(np.mean((part - truth) ** 2)))


def test_each_packet_gives_exactly_its_samples(encode: Callable[..., list[bytes]]) -> None:
    decoder = OpusDecoder()
    packets = encode(sound(0.5), fec=False)
    assert [len(floats(decoder.decode(p))) for p in packets] == [FRAME] * len(packets)


def test_the_copy_in_the_next_packet_is_closer_to_the_truth_than_concealment(
    encode: Callable[..., list[bytes]],
) -> None:
    packets = encode(sound(2), fec=True)
    whole = OpusDecoder()
    truth = [floats(whole.decode(p)) for p in packets]
    errors = {}
    for repairs in (True, False):
        decoder = OpusDecoder()
        wrong = []
        for n, payload in enumerate(packets):
            if n % 10 == 5:
                continue
            if n % 10 == 6 and has_redundancy(payload):
                filled = floats(decoder.fill(payload, FRAME, repairs=repairs))
                wrong.append(error_of(filled, truth[n - 1]))
            decoder.decode(payload)
        assert len(wrong) > 4
        errors[repairs] = float(np.mean(wrong))
    assert errors[True] < 0.7 * errors[False]


def test_concealment_goes_on_from_what_was_heard_and_falls_silent(
    encode: Callable[..., list[bytes]],
) -> None:
    decoder = OpusDecoder()
    *heard, after = encode(sound(0.6), fec=False)
    for payload in heard:
        last = floats(decoder.decode(payload))
    filled = floats(decoder.fill(after, 24_000, repairs=False))
    assert len(filled) == 24_000
    assert loudness(filled[:FRAME]) > 0.3 * loudness(last)
    assert loudness(filled[9600:]) == 0
    assert np.abs(np.diff(filled[8640:9700])).max() < 0.05  # no click where it ends


@pytest.mark.parametrize(("lost", "filled"), [(0, 0), (119, 0), (960, 960), (4000, 3960)])
def test_a_loss_is_filled_to_the_nearest_two_and_a_half_milliseconds(
    lost: int, filled: int, encode: Callable[..., list[bytes]]
) -> None:
    payload = encode(sound(0.1), fec=True)[-1]
    assert len(floats(OpusDecoder().fill(payload, lost, repairs=True))) == filled


def test_a_broken_packet_is_an_error_and_the_next_one_is_decoded(
    encode: Callable[..., list[bytes]],
) -> None:
    decoder = OpusDecoder()
    with pytest.raises(OpusError):
        decoder.decode(b"\xff\xff")
    assert len(floats(decoder.decode(encode(sound(0.1), fec=False)[0]))) == FRAME


def test_without_the_library_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    opus_decoder._library.cache_clear()
    monkeypatch.setattr(opus_decoder, "_candidates", lambda: iter(["/nowhere/libopus.so"]))
    with pytest.raises(opus_decoder.OpusUnavailable, match="no libopus"):
        OpusDecoder()
    opus_decoder._library.cache_clear()


@pytest.mark.parametrize(("fec", "wideband"), [(True, True), (False, True), (False, False)])
def test_redundancy_is_seen_as_libopus_sees_it(
    fec: bool, wideband: bool, encode: Callable[..., list[bytes]]
) -> None:
    packets = encode(sound(1), fec=fec, wideband=wideband)
    seen = [has_redundancy(p) for p in packets]
    assert seen == [library_has_redundancy(p) for p in packets]
    assert any(seen) == fec


@given(st.binary(min_size=1, max_size=60))
def test_redundancy_of_any_well_formed_packet_is_what_libopus_says(packet: bytes) -> None:
    library = opus_decoder._library()
    if library.opus_packet_get_nb_frames(packet, len(packet)) < 1:
        has_redundancy(packet)  # must not raise
        return
    if library_has_redundancy(packet):
        assert has_redundancy(packet)


@pytest.mark.parametrize("rate_hz", [48_000, 24_000, 16_000])
def test_other_rates_fill_and_fade_at_the_same_times(
    rate_hz: int, encode: Callable[..., list[bytes]]
) -> None:
    *heard, after = encode(sound(0.6), fec=True)
    decoder = OpusDecoder(rate_hz)
    assert {len(floats(decoder.decode(p))) for p in heard} == {rate_hz // 50}
    filled = floats(decoder.fill(after, rate_hz // 2, repairs=True))
    assert len(filled) == rate_hz // 2
    begin, end = round(rate_hz * 0.2), round(rate_hz * 0.48)
    assert not filled[begin:end].any()
    assert loudness(filled[:begin]) > 0.01
    assert filled[end:].any()  # from the packet after the loss


def test_at_16_khz_it_sounds_as_at_48(encode: Callable[..., list[bytes]]) -> None:
    packets = encode(sound(1), fec=False)
    full, low = OpusDecoder(), OpusDecoder(16_000)
    truth = floats(b"".join(full.decode(p) for p in packets))
    heard = floats(b"".join(low.decode(p) for p in packets))[1000:15_000]
    # They differ by a delay of less than a millisecond.
    errors = [error_of(heard, truth[3000 + at : 45_000 + at : 3]) for at in range(-48, 48)]
    assert min(errors) < 0.03 * loudness(heard)
