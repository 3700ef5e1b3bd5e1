"""A recording and its transcript become one file with a text track that players show."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from jobs.recorder import __main__ as command
from jobs.recorder.moments import Kind, Moment
from jobs.recorder.mp4 import AUDIO_BLOCK, Mp4Writer, finish_mp4
from jobs.recorder.subtitles import Cue, read_cues
from testbed.analysis.mp4_structure import read_mp4

VTT = """WEBVTT

00:00:00.500 --> 00:00:02.000
<v Ann &amp; Co>(Ann &amp; Co) good morning

00:00:01.500 --> 00:00:03.000
<v Bob>(Bob) hällo 你好

00:00:06.000 --> 00:00:07.250
<v Ann>(Ann) bye
"""
JOINED = [
    (500, 1500, "(Ann & Co) good morning"),
    (1500, 2000, "(Ann & Co) good morning\n(Bob) hällo 你好"),
    (2000, 3000, "(Bob) hällo 你好"),
    (6000, 7250, "(Ann) bye"),
]


@pytest.fixture
def recording(tmp_path: Path, settings) -> Path:
    writer = Mp4Writer(tmp_path / "part.mp4", settings)
    planes = np.full((1080, 1280), 100, np.uint8)
    for number in range(20):
        writer.write_picture(planes, ticks=number * 45_000, duration=45_000)
        while writer.samples < (number + 1) * 24_000:
            writer.write_sound(np.zeros(AUDIO_BLOCK, np.float32))
    writer.close()
    moments = [Moment(4, Kind.SCREEN, "Ann")]
    finish_mp4(tmp_path / "part.mp4", tmp_path / "recording.mp4", moments=moments)
    return tmp_path / "recording.mp4"


@pytest.fixture
def transcript(tmp_path: Path) -> Path:
    path = tmp_path / "transcript.vtt"
    path.write_text(VTT, encoding="utf-8")
    return path


def texts(path: Path) -> list[tuple[int, int, str]]:
    """What the text track shows: from and to in ms, and the text."""
    with av.open(str(path)) as container:
        stream = container.streams.subtitles[0]
        found = []
        for packet in container.demux(stream):
            content = bytes(packet)
            if packet.pts is None or len(content) <= 2:
                continue
            start = packet.pts * packet.time_base * 1000
            end = (packet.pts + packet.duration) * packet.time_base * 1000
            text = content[2 : 2 + int.from_bytes(content[:2], "big")].decode()
            found.append((round(start), round(end), text))
    return found


def test_the_text_track_shows_every_cue_at_its_time(
    recording: Path, transcript: Path, tmp_path: Path
) -> None:
    target = tmp_path / "with.mp4"
    assert command.main(["subtitles", str(recording), str(transcript), str(target), "eng"]) == 0
    assert texts(target) == JOINED
    with av.open(str(target)) as container:
        assert container.streams.subtitles[0].metadata["language"] == "eng"
        assert container.streams.subtitles[0].codec_context.name == "mov_text"


def test_pictures_sound_and_chapters_stay_as_they_are(
    recording: Path, transcript: Path, tmp_path: Path
) -> None:
    target = tmp_path / "with.mp4"
    assert command.main(["subtitles", str(recording), str(transcript), str(target)]) == 0
    before, after = read_mp4(recording), read_mp4(target)
    assert after.index_in_front
    assert (after.video_codecs, after.audio_codecs) == (before.video_codecs, before.audio_codecs)
    assert after.frame_times_s == before.frame_times_s
    assert after.audio_duration_s == pytest.approx(before.audio_duration_s, abs=0.001)
    for path in (recording, target):
        with av.open(str(path)) as container:
            titles = [chapter["metadata"]["title"] for chapter in container.chapters()]
        assert titles == ["Call", "Screen of Ann"]


def test_where_two_speak_at_once_both_are_read(transcript: Path) -> None:
    assert read_cues(transcript) == [Cue(*cue) for cue in JOINED]


def test_a_long_meeting_is_joined_in_no_time(tmp_path: Path) -> None:
    lines = ["WEBVTT"]
    for number in range(5_000):
        minute, second = divmod(number % 3_600, 60)
        stamp = f"{number // 3_600:02}:{minute:02}:{second:02}"
        lines.append(f"\n{stamp}.000 --> {stamp}.900\nword {number}")
    (tmp_path / "long.vtt").write_text("\n".join(lines) + "\n")
    assert len(read_cues(tmp_path / "long.vtt")) == 5_000


@pytest.mark.parametrize("content", [None, "", "not a transcript", "WEBVTT\n"])
def test_what_is_no_transcript_is_named_and_nothing_is_written(
    recording: Path, tmp_path: Path, capsys, content: str | None
) -> None:
    transcript, target = tmp_path / "other.vtt", tmp_path / "with.mp4"
    if content is not None:
        transcript.write_text(content)
    assert command.main(["subtitles", str(recording), str(transcript), str(target)]) == 1
    assert "other.vtt" in capsys.readouterr().err
    assert not target.exists()


def test_what_is_no_recording_is_named_and_nothing_is_left(
    transcript: Path, tmp_path: Path, capsys
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    target = tmp_path / "with.mp4"
    arguments = ["subtitles", str(tmp_path / "broken.mp4"), str(transcript), str(target)]
    assert command.main(arguments) == 1
    assert "broken.mp4" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.glob("with*")) == []
