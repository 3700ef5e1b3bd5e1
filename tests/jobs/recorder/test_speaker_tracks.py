"""Speakers' own tracks: the packets that came, at their places, in files that any player reads."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest

from callclient.receive.tracks import EncodedFrame
from jobs.ogg import read_pages
from jobs.recorder import speaker_tracks
from jobs.recorder.scene import Person, Scene, Tile
from jobs.recorder.speaker_tracks import SPEAKERS_NAME, SpeakerTracks
from rtc.opus import packet_samples
from testbed.analysis.media import read_sound

ZERO_NS = 7_000_000_000
S = 1_000_000_000
RUN_IN_S = 0.0065
"""Of the test's encoder."""
ANN = Tile("s-ann", Person("u-ann", "Ann"), False, None, True, 0)


@pytest.fixture
def tracks(tmp_path: Path) -> SpeakerTracks:
    return SpeakerTracks(tmp_path / "artifacts", zero_ns=ZERO_NS)


def onsets(path: Path) -> list[float]:
    """When it becomes loud after a fifth of a second of quiet, s."""
    sound = read_sound(path, rate_hz=16_000)
    loud = np.flatnonzero(np.abs(sound.samples) > 0.1) / 16_000 + sound.start_s
    return [float(t) for t in loud[np.diff(loud, prepend=-1) > 0.2]]


def end_s(path: Path) -> float:
    sound = read_sound(path, rate_hz=16_000)
    return sound.start_s + len(sound.samples) / 16_000


def test_beeps_are_where_they_were_in_the_call_each_in_its_speaker_s_file(
    tracks: SpeakerTracks, audio_frames, tmp_path: Path
) -> None:
    said = {"s-ann": (1.0, 2.503, 9.0), "s-bob": (0.5, 63.0017)}
    for session_id, beeps in said.items():
        for at_s in beeps:
            for frame in audio_frames(0.2, zero_ns=ZERO_NS + round(at_s * S)):
                tracks.push(session_id, frame)
            tracks.flush()
    for number, beeps in enumerate(said.values(), start=1):
        path = tmp_path / "artifacts" / f"speaker-{number:02}.ogg"
        # A decoder comes up within a packet after silence.
        assert onsets(path) == pytest.approx([b + RUN_IN_S for b in beeps], abs=0.022)
        assert end_s(path) == pytest.approx(beeps[-1] + 0.2, abs=0.025)


def test_a_pause_is_silent_and_a_tenth_of_a_second_later_the_voice_is_as_loud_as_before(
    tracks: SpeakerTracks, audio_frames, tmp_path: Path
) -> None:
    for frame in audio_frames(2.0, zero_ns=ZERO_NS):
        after = frame.time_ns - ZERO_NS >= S
        later = EncodedFrame(
            frame.payload, frame.time_ns + after * 5 * S, frame.duration_ns, True, 0
        )
        tracks.push("s-ann", later)
    tracks.flush()
    sound = read_sound(tmp_path / "artifacts" / "speaker-01.ogg", rate_hz=16_000)
    assert np.abs(sound.between(1.05, 5.95).samples).max() < 0.001
    before, after = sound.between(0.5, 0.9), sound.between(6.1, 6.2)
    assert after.samples.std() == pytest.approx(before.samples.std(), rel=0.1)


def test_what_came_is_in_the_file_bit_by_bit(
    tracks: SpeakerTracks, audio_frames, tmp_path: Path
) -> None:
    frames = audio_frames(0.5, zero_ns=ZERO_NS)
    for frame in frames:
        tracks.push("s-ann", frame)
    tracks.flush()
    with (tmp_path / "artifacts" / "speaker-01.ogg").open("rb") as file:
        packets = [packet for page in read_pages(file) for packet in page.packets]
    assert packets[0].startswith(b"OpusHead")
    assert packets[2:] == [frame.payload for frame in frames]


def test_small_errors_of_time_make_no_seam(
    tracks: SpeakerTracks, audio_frames, tmp_path: Path
) -> None:
    for number, frame in enumerate(audio_frames(1.0, zero_ns=ZERO_NS)):
        shaken = EncodedFrame(
            frame.payload, frame.time_ns + (number % 3) * 6_000_000, frame.duration_ns, True, 0
        )
        tracks.push("s-ann", shaken)
    tracks.flush()
    path = tmp_path / "artifacts" / "speaker-01.ogg"
    assert end_s(path) == pytest.approx(1.0, abs=0.025)
    assert tracks.packets_dropped == 0


def test_what_lies_on_what_is_there_already_is_left_out_and_counted(
    tracks: SpeakerTracks, audio_frames, tmp_path: Path
) -> None:
    for _ in range(2):
        for frame in audio_frames(0.4, zero_ns=ZERO_NS + S):
            tracks.push("s-ann", frame)
    tracks.flush()
    assert end_s(tmp_path / "artifacts" / "speaker-01.ogg") == pytest.approx(1.4, abs=0.03)
    assert tracks.packets_dropped == len(audio_frames(0.4))


def test_what_was_said_before_the_start_is_not_in_it(
    tracks: SpeakerTracks, audio_frames, tmp_path: Path
) -> None:
    for frame in audio_frames(0.9, zero_ns=ZERO_NS - S):
        tracks.push("s-ann", frame)
    tracks.flush()
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.parametrize("gap", [120, 121, 959, 960, 5_760, 5_879, 48_000 * 3_600])
def test_silence_is_as_long_as_it_should_be_to_the_nearest_2_5_ms(gap: int) -> None:
    track = speaker_tracks._Track(Path("unused"), 1)
    track.push(b"\xf8\xff\xfe", 960, gap)
    assert 0 <= gap - (track.end - 960) < 120
    assert all(packet_samples(packet) == samples for packet, samples in track.pending)


def test_after_an_hour_of_silence_every_packet_counts(
    tracks: SpeakerTracks, audio_frames, tmp_path: Path
) -> None:
    frames = audio_frames(0.5, zero_ns=ZERO_NS + 3_600 * S)
    for frame in frames:
        tracks.push("s-ann", frame)
    tracks.flush()
    path = tmp_path / "artifacts" / "speaker-01.ogg"
    with path.open("rb") as file:
        packets = [packet for page in read_pages(file) for packet in page.packets]
    assert packets[-len(frames) :] == [frame.payload for frame in frames]
    assert path.stat().st_size < 600_000
    assert tracks.packets_dropped == 0


def test_packets_that_wait_are_bounded(tracks: SpeakerTracks) -> None:
    silence = b"\xf8\xff\xfe"
    for number in range(3_000):
        frame = EncodedFrame(silence, ZERO_NS + number * 20_000_000, 20_000_000, True, 0)
        tracks.push("s-ann", frame)
    assert tracks.packets_dropped == 1_500


def test_whose_is_whose_is_said_beside_them(
    tracks: SpeakerTracks, audio_frames, tmp_path: Path
) -> None:
    for frame in audio_frames(0.1, zero_ns=ZERO_NS):
        tracks.push("s-ann", frame)
    tracks.flush()
    found = json.loads((tmp_path / "artifacts" / SPEAKERS_NAME).read_text())["speakers"]
    assert found == [{"file": "speaker-01.ogg", "session_id": "s-ann", "user_id": "", "name": ""}]
    tracks.note(Scene((ANN,), 1))
    tracks.flush()
    found = json.loads((tmp_path / "artifacts" / SPEAKERS_NAME).read_text())["speakers"]
    assert (found[0]["user_id"], found[0]["name"]) == ("u-ann", "Ann")


def test_nothing_is_written_of_a_call_in_which_nobody_spoke(
    tracks: SpeakerTracks, tmp_path: Path
) -> None:
    tracks.note(Scene((ANN,), 1))
    tracks.flush()
    assert not (tmp_path / "artifacts").exists()


def test_a_full_disk_gets_their_room_back(
    tracks: SpeakerTracks, audio_frames, tmp_path: Path, monkeypatch
) -> None:
    first, *rest = audio_frames(0.2, zero_ns=ZERO_NS)
    tracks.push("s-ann", first)
    tracks.flush()
    assert list((tmp_path / "artifacts").iterdir())

    def full(_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(speaker_tracks._Track, "flush", full)
    for frame in rest:
        tracks.push("s-ann", frame)
    tracks.flush()
    assert list((tmp_path / "artifacts").iterdir()) == []
    tracks.push("s-ann", first)
    tracks.flush()


def test_they_end_where_they_would_cost_too_much(
    tracks: SpeakerTracks, audio_frames, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(speaker_tracks, "_MOST_BYTES", 2_000)
    path = tmp_path / "artifacts" / "speaker-01.ogg"
    for second in range(5):
        for frame in audio_frames(0.5, zero_ns=ZERO_NS + second * S):
            tracks.push("s-ann", frame)
        tracks.flush()
    assert 2_000 < path.stat().st_size < 10_000
    assert onsets(path), "what was written before stays readable"
