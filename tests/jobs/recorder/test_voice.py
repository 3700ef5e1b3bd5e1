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


def test_lost_packets_are_concealed_up_to_the_next_one_without_a_seam(frames) -> None:
    track = VoiceTrack()
    for frame in frames[:10]:
        before = track.push(frame, zero_ns=ZERO_NS)
    after = replace(frames[12], lost_before=2, lost_ns=40_000_000)
    block = track.push(after, zero_ns=ZERO_NS)
    assert (block.position, len(block.samples)) == (10 * 960, 3 * 960)
    assert np.abs(block.samples[:960]).max() > 0.5 * np.abs(before.samples).max()
    assert abs(block.samples[0] - before.samples[-1]) < 0.1
    assert track.push(frames[13], zero_ns=ZERO_NS).position == 13 * 960


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


def test_a_clock_that_drifts_is_followed_in_speech_without_a_seam(audio_frames) -> None:
    """A sound card 1000 millionths slow for 20 s: 20 ms, worked off while the tone goes on."""
    track, at, errors = VoiceTrack(), None, []
    for number, frame in enumerate(audio_frames(20, zero_ns=ZERO_NS)):
        told_ns = ZERO_NS + number * 20_020_000
        block = track.push(replace(frame, time_ns=told_ns), zero_ns=ZERO_NS)
        assert at is None or block.position == at, "no hole, no overlap"
        at = block.end
        errors.append(block.position / 48_000 - (told_ns - ZERO_NS) / 1e9)
    assert max(map(abs, errors)) < 0.004


def test_what_is_stretched_sounds_the_same(audio_frames) -> None:
    track, heard = VoiceTrack(), []
    for number, frame in enumerate(audio_frames(4, zero_ns=ZERO_NS)):
        late = replace(frame, time_ns=ZERO_NS + number * 20_000_000 + (number > 20) * 12_000_000)
        heard.append(track.push(late, zero_ns=ZERO_NS).samples)
    sound = np.concatenate(heard[30:])
    assert any(len(samples) != 960 for samples in heard)
    assert np.abs(np.diff(sound)).max() < 1.1 * 0.3 * 2 * np.pi * 1000 / 48_000
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    assert np.argmax(spectrum) * 48_000 / len(sound) == pytest.approx(1000, abs=8)


def test_packets_that_overtake_what_was_placed_are_never_heard_on_top_of_each_other(frames) -> None:
    track, at = VoiceTrack(), None
    for number, frame in enumerate(frames[:20]):
        stuck = replace(frame, time_ns=ZERO_NS + min(number, 4) * 20_000_000)
        block = track.push(stuck, zero_ns=ZERO_NS)
        assert at is None or block.position == at
        at = block.end
    assert at <= 4 * 960 + 9600 + 2 * 960, "farther behind it is cut"


def test_the_end_of_a_track_fades_out_once(frames) -> None:
    track = VoiceTrack()
    assert track.fade_out() is None
    for frame in frames[:10]:
        last = track.push(frame, zero_ns=ZERO_NS)
    tail = track.fade_out()
    assert tail.position == last.end
    assert abs(tail.samples[0] - last.samples[-1]) < 0.1
    assert abs(tail.samples[-1]) < 0.001
    assert track.fade_out() is None


def test_sound_after_a_pause_begins_without_a_click(audio_frames) -> None:
    track, frames = VoiceTrack(), audio_frames(0.5, zero_ns=ZERO_NS, hz=1013)
    for frame in frames[:10]:
        track.push(frame, zero_ns=ZERO_NS)
    # The decoder goes on in the middle of the wave.
    block = track.push(replace(frames[10], time_ns=ZERO_NS + 5_000_000_000), zero_ns=ZERO_NS)
    assert block.position == 5 * 48_000
    assert abs(block.samples[0]) < 0.003
    assert np.abs(block.samples[300:]).max() > 0.2


def test_a_broken_packet_is_made_up_from_what_was_heard(frames) -> None:
    track = VoiceTrack()
    for frame in frames[:10]:
        before = track.push(frame, zero_ns=ZERO_NS)
    broken = replace(frames[10], payload=bytes([frames[10].payload[0] | 3, 0x41]))
    block = track.push(broken, zero_ns=ZERO_NS)
    assert track.packets_broken == 1
    assert (block.position, len(block.samples)) == (before.end, 960)
    assert np.abs(block.samples).max() > 0.1
