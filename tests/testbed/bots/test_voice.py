from __future__ import annotations

import numpy as np
import pytest

from testbed.bots.voice import (
    BEEP_HZ,
    TICKS_PER_S,
    VoicePacket,
    VoiceSource,
    beep_packets,
    silence_packet,
)
from testbed.speech.clips import CLIPS_DIRECTORY, Clip, load_clips
from testbed.speech.opus_file import PACKET_SAMPLES, RATE_HZ, decode_opus


@pytest.fixture(scope="module")
def clip() -> Clip:
    return load_clips(CLIPS_DIRECTORY, speakers=("alice", "bob", "carol"))["alice"][0]


def _source(*, stands: bool = False) -> VoiceSource:
    source = VoiceSource(rtp_offset=1000, rtp_stands_while_muted=stands)
    source.muted = False
    return source


def _packets(source: VoiceSource, first: int, last: int) -> list[VoicePacket]:
    return [p for tick in range(first, last) if (p := source.packet(tick)) is not None]


def test_nothing_is_sent_while_muted_not_even_silence() -> None:
    source = _source()
    source.muted = True
    assert _packets(source, 0, 100) == []


def test_between_sentences_real_opus_silence_is_sent() -> None:
    packet = _packets(_source(), 0, 1)[0]
    assert packet.payload == silence_packet()
    assert packet.level == 127
    assert np.abs(decode_opus([packet.payload] * 10)).max() < 1e-3


def test_a_clip_is_sent_packet_by_packet_from_the_next_tick(clip: Clip) -> None:
    source = _source()
    _packets(source, 0, 10)
    source.say(clip)
    sent = _packets(source, 10, 10 + len(clip.packets) + 1)
    assert tuple(p.payload for p in sent[:-1]) == clip.packets
    assert tuple(p.level for p in sent[:-1]) == clip.levels
    assert [p.starts for p in sent] == [clip] + [None] * len(clip.packets)


def test_rtp_time_goes_on_while_muted_when_it_runs() -> None:
    source = _source()
    before = _packets(source, 0, 10)[-1]
    source.muted = True
    _packets(source, 10, 60)
    source.muted = False
    after = _packets(source, 60, 61)[0]
    assert after.rtp_timestamp - before.rtp_timestamp == 51 * PACKET_SAMPLES


def test_rtp_time_stands_while_muted_as_in_some_browsers() -> None:
    source = _source(stands=True)
    before = _packets(source, 0, 10)[-1]
    source.muted = True
    _packets(source, 10, 60)
    source.muted = False
    after = _packets(source, 60, 61)[0]
    assert after.rtp_timestamp - before.rtp_timestamp == PACKET_SAMPLES


def test_the_first_packet_after_a_pause_is_marked() -> None:
    source = _source()
    assert [p.marker for p in _packets(source, 0, 3)] == [True, False, False]
    source.muted = True
    _packets(source, 3, 5)
    source.muted = False
    assert [p.marker for p in _packets(source, 5, 7)] == [True, False]


def test_beeps_begin_at_whole_seconds() -> None:
    source = _source()
    source.beeping = True
    sent = _packets(source, 0, 4 * TICKS_PER_S)
    assert [p.beep_tick for p in sent if p.beep_tick is not None] == [50, 100, 150, 200]
    sound = decode_opus([p.payload for p in sent])
    loud = np.flatnonzero(np.abs(sound) > 0.05) / RATE_HZ
    assert loud[0] == pytest.approx(1.0, abs=0.003)
    spectrum = np.abs(np.fft.rfft(sound[RATE_HZ : RATE_HZ + RATE_HZ // 10]))
    assert np.argmax(spectrum) * 10 == BEEP_HZ


def test_a_talking_bot_does_not_beep(clip: Clip) -> None:
    source = _source()
    source.beeping = True
    _packets(source, 0, 60)
    source.say(clip)
    sent = _packets(source, 60, 60 + len(clip.packets))
    assert all(p.beep_tick is None for p in sent)


def test_a_sentence_waits_for_a_beep_to_end(clip: Clip) -> None:
    source = _source()
    source.beeping = True
    _packets(source, 0, 51)
    source.say(clip)
    starts = [i for i, p in enumerate(_packets(source, 51, 80), 51) if p.starts is not None]
    assert starts == [49 + len(beep_packets())]


def test_rtp_time_wraps_at_32_bits() -> None:
    source = VoiceSource(rtp_offset=2**32 - PACKET_SAMPLES, rtp_stands_while_muted=False)
    source.muted = False
    assert [p.rtp_timestamp for p in _packets(source, 0, 2)] == [2**32 - PACKET_SAMPLES, 0]
