"""Packets become sound at their place: without seams, and moved where the place is another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jobs.recorder.voice import VoiceTrack

ZERO_NS = 5_000_000_000


@pytest.fixture
def frames(audio_frames):
    return audio_frames(0.5, zero_ns=ZERO_NS)


def positions(track: VoiceTrack, frames) -> list[int]:
    blocks = [track.push(frame, zero_ns=ZERO_NS) for frame in frames]
    assert all(len(block.samples) == 960 for block in blocks)
    return [block.position for block in blocks]


def test_a_packet_has_exactly_its_samples_at_its_time(frames) -> None:
    assert positions(VoiceTrack(), frames)[:3] == [0, 960, 1920]


def test_the_sound_is_the_sound_that_was_sent(frames) -> None:
    track = VoiceTrack()
    heard = np.concatenate([track.push(frame, zero_ns=ZERO_NS).samples for frame in frames[5:20]])
    spectrum = np.abs(np.fft.rfft(heard))
    assert np.argmax(spectrum) * 48_000 / len(heard) == pytest.approx(1000, abs=5)
    assert np.abs(heard).max() == pytest.approx(0.3, abs=0.05)


def test_uncertain_times_leave_no_seam_in_speech(frames) -> None:
    shaken = [replace(f, time_ns=f.time_ns + (n % 3) * 5_000_000) for n, f in enumerate(frames[:9])]
    assert positions(VoiceTrack(), shaken) == [960 * n for n in range(9)]


def test_a_pause_moves_what_follows_to_its_time(frames) -> None:
    paused = [*frames[:3], *(replace(f, time_ns=f.time_ns + 5_000_000_000) for f in frames[3:6])]
    assert positions(VoiceTrack(), paused)[3] == 3 * 960 + 5 * 48_000


def test_lost_packets_leave_their_room(frames) -> None:
    kept = [*frames[:3], replace(frames[5], lost_before=2)]
    assert positions(VoiceTrack(), kept)[3] == 5 * 960


def test_small_shifts_are_made_up_in_silence(audio_frames) -> None:
    quiet = audio_frames(0.2, zero_ns=ZERO_NS, level=0.0001)
    late = [*quiet[:3], *(replace(f, time_ns=f.time_ns + 8_000_000) for f in quiet[3:5])]
    assert positions(VoiceTrack(), late)[3] == 3 * 960 + 384


def test_a_broken_packet_is_silence_of_its_length_and_counted(frames) -> None:
    track = VoiceTrack()
    broken = replace(frames[0], payload=frames[0].payload[:1] + b"\xff" * 3)
    code3 = bytes([frames[0].payload[0] | 3, 0x41])  # says one frame with padding, then ends
    for payload in (code3,):
        block = track.push(replace(broken, payload=payload), zero_ns=ZERO_NS)
        assert block is not None
        assert not block.samples.any()
    assert track.packets_broken == 1


def test_an_empty_packet_is_nothing(frames) -> None:
    assert VoiceTrack().push(replace(frames[0], payload=b""), zero_ns=ZERO_NS) is None
