"""Chapters at shared screens and changes of the host: from the scenes to the file."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from jobs.recorder.chapters import Chapter, chapters, to_json, to_webvtt
from jobs.recorder.moments import MOMENTS_NAME, Kind, Moment, MomentLog, read_moments
from jobs.recorder.mp4 import AUDIO_BLOCK, Mp4Writer, finish_mp4
from jobs.recorder.scene import Person, Scene, Tile
from testbed.analysis.mp4_structure import read_mp4

S = 1_000_000_000
ANN = Tile("s-ann", Person("u-ann", "Ann Ä. <x>"), False, None, True, 0)
BOB = Tile("s-bob", Person("u-bob", "Bob"), False, None, False, 0)


def screen(at_s: float, name: str = "Ann") -> Moment:
    return Moment(at_s, Kind.SCREEN, name)


def over(at_s: float) -> Moment:
    return Moment(at_s, Kind.SCREEN_OVER)


def titles(*moments: Moment, duration_s: float = 100) -> list[tuple[float, str]]:
    return [(c.start_s, c.title) for c in chapters(moments, duration_s=duration_s)]


def test_screens_and_hosts_begin_chapters_without_gaps() -> None:
    moments = [screen(10), Moment(20, Kind.HOST, "Bob"), over(30), Moment(40, Kind.PEOPLE, count=9)]
    assert chapters(moments, duration_s=50) == [
        Chapter(0, 10, "Call"),
        Chapter(10, 20, "Screen of Ann"),
        Chapter(20, 30, "Bob is now the host"),
        Chapter(30, 50, "Call"),
    ]


def test_a_call_in_which_nothing_happened_has_no_chapters() -> None:
    assert titles() == []
    assert titles(Moment(3, Kind.PEOPLE, count=2)) == []
    assert titles(screen(0)) == [], "one chapter tells nothing"


def test_what_lasts_no_time_is_no_chapter() -> None:
    assert titles(screen(10), over(11)) == []
    assert titles(screen(1), over(30)) == [(0, "Screen of Ann"), (30, "Call")]
    assert titles(screen(10), Moment(11, Kind.HOST, "Bob")) == [(0, "Call"), (10, "Screen of Ann")]
    assert titles(screen(50), duration_s=51) == []
    assert titles(screen(50), screen(70), duration_s=60) == [(0, "Call"), (50, "Screen of Ann")]


def test_who_is_not_known_is_not_named() -> None:
    assert titles(screen(10, "")) == [(0, "Call"), (10, "Shared screen")]


def test_there_are_never_more_than_a_file_can_hold() -> None:
    moments = [screen(3.0 * n, f"N{n}" + "ä" * 200) for n in range(1, 900)]
    found = chapters(moments, duration_s=10_000)
    assert len(found) <= 255
    assert all(len(chapter.title.encode()) <= 255 for chapter in found)
    assert found[-1].end_s == 10_000


def test_players_get_webvtt_and_scripts_json() -> None:
    found = [Chapter(0, 61.5, "Call"), Chapter(61.5, 3723.25, "Screen of <Ann> & co")]
    assert to_webvtt(found) == (
        "WEBVTT\n\n1\n00:00:00.000 --> 00:01:01.500\nCall\n\n"
        "2\n00:01:01.500 --> 01:02:03.250\nScreen of &lt;Ann&gt; &amp; co\n"
    )
    rows = json.loads(to_json(found))["chapters"]
    assert rows[1] == {"start_s": 61.5, "end_s": 3723.25, "title": "Screen of <Ann> & co"}


@pytest.fixture
def log(tmp_path: Path) -> MomentLog:
    return MomentLog(tmp_path / MOMENTS_NAME, zero_ns=7 * S)


def test_moments_are_on_disk_as_they_happen(tmp_path: Path, log: MomentLog) -> None:
    log.note(Scene((ANN,), 1), 3 * S)
    log.note(Scene((ANN, BOB), 2), 9 * S)
    log.note(Scene((ANN, BOB), 2, "s-ann"), 10 * S)
    log.note(Scene((ANN, BOB), 2, "s-ann"), 11 * S)
    bob = replace(BOB, host=True)
    log.note(Scene((replace(ANN, host=False), bob), 2, "s-ann"), 12 * S)
    log.note(Scene((bob,), 1), 13 * S)
    assert read_moments(tmp_path) == [
        Moment(0, Kind.PEOPLE, count=1),
        Moment(2, Kind.PEOPLE, count=2),
        Moment(3, Kind.SCREEN, "Ann Ä. <x>"),
        Moment(5, Kind.HOST, "Bob"),
        Moment(6, Kind.SCREEN_OVER),
    ]


def test_a_recording_of_sound_alone_names_nobody(tmp_path: Path) -> None:
    log = MomentLog(tmp_path / MOMENTS_NAME, zero_ns=0, names=False)
    log.note(Scene((ANN, BOB), 2, "s-ann"), 10 * S)
    log.note(Scene((replace(BOB, host=True),), 1, "s-ann"), 20 * S)
    assert "Ann" not in (tmp_path / MOMENTS_NAME).read_text()
    assert titles(*read_moments(tmp_path)) == [(0, "Call"), (10, "Shared screen"), (20, "New host")]


def test_moments_are_bounded(tmp_path: Path, log: MomentLog) -> None:
    for number in range(5_000):
        log.note(Scene((ANN,), 1, "s-ann" if number % 2 else ""), (7 + number) * S)
    assert len(read_moments(tmp_path)) <= 2_000


def test_a_disk_that_refuses_costs_moments_and_nothing_else(tmp_path: Path) -> None:
    log = MomentLog(tmp_path / "missing" / MOMENTS_NAME, zero_ns=0)
    log.note(Scene((ANN,), 1, "s-ann"), S)
    log.note(Scene((ANN,), 1), 2 * S)


def test_damaged_lines_are_left_out(tmp_path: Path) -> None:
    assert read_moments(tmp_path) == []
    lines = ["{", '{"at_s": 4, "kind": "screen"}', "[]", '{"at_s": "x", "kind": "host"}', "\xff"]
    lines += ['{"at_s": NaN, "kind": "host"}', '{"at_s": 1, "kind": "alien"}', '{"at_s": -1}']
    (tmp_path / MOMENTS_NAME).write_bytes("\n".join(lines).encode("latin-1"))
    assert read_moments(tmp_path) == [Moment(4, Kind.SCREEN)]
    assert all(math.isfinite(moment.at_s) for moment in read_moments(tmp_path))


def test_the_finished_file_has_its_chapters_and_is_otherwise_the_same(
    tmp_path: Path, settings
) -> None:
    writer = Mp4Writer(tmp_path / "part.mp4", settings)
    planes = np.full((1080, 1280), 100, np.uint8)
    for number in range(20):
        writer.write_picture(planes, ticks=number * 45_000, duration=45_000)
        while writer.samples < (number + 1) * 24_000:
            writer.write_sound(np.zeros(AUDIO_BLOCK, np.float32))
    writer.close()
    moments = [screen(3.2, "Ännchen 画面"), over(6.4)]
    finish_mp4(tmp_path / "part.mp4", tmp_path / "plain.mp4")
    finish_mp4(tmp_path / "part.mp4", tmp_path / "done.mp4", moments=moments)
    with av.open(str(tmp_path / "done.mp4")) as container:
        found = [
            (
                float(c["start"] * c["time_base"]),
                float(c["end"] * c["time_base"]),
                c["metadata"]["title"],
            )
            for c in container.chapters()
        ]
        assert not container.streams.subtitles
    assert [title for _, _, title in found] == ["Call", "Screen of Ännchen 画面", "Call"]
    assert [start_s for start_s, _, _ in found] == pytest.approx([0, 3.2, 6.4], abs=0.001)
    assert found[-1][1] == pytest.approx(10.0, abs=0.05)
    with_chapters, without = (read_mp4(tmp_path / f"{n}.mp4") for n in ("done", "plain"))
    assert with_chapters.index_in_front
    assert (with_chapters.video_codecs, with_chapters.audio_codecs) == (("h264",), ("aac",))
    assert with_chapters.frame_times_s == without.frame_times_s
