"""Who speaks, by levels."""

from __future__ import annotations

from typing import Any

from callclient.events import VoiceHeard
from callclient.receive.levels import SILENT_DBOV, SpeechLevel

MS = 1_000_000
CELT_20MS = b"\xf8\xff\xfe"
VOICE = 7


def feed(level: SpeechLevel, values: list[int], at_ms: int = 0) -> list[bool]:
    return [level.told(v, (at_ms + 20 * n) * MS, 20 * MS) for n, v in enumerate(values)]


def test_speech_begins_after_60_ms_and_ends_after_half_a_second_of_quiet() -> None:
    level = SpeechLevel()
    assert feed(level, [20, 20, 20]) == [False, False, True]
    assert feed(level, [70] * 24, 60) == [False] * 24
    assert feed(level, [70], 540) == [True]
    assert not level.speaking


def test_a_click_and_what_is_between_loud_and_quiet_change_nothing() -> None:
    level = SpeechLevel()
    assert feed(level, [10, 80, 10, 80, 10, 80]) == [False] * 6
    assert feed(level, [47] * 50) == [False] * 50
    feed(level, [20] * 3)
    assert feed(level, [47] * 50) == [False] * 50
    assert level.speaking


def test_a_mute_ends_speech_although_nothing_comes() -> None:
    level = SpeechLevel()
    feed(level, [20] * 5)
    assert level.level_dbov == -20
    assert not level.silence_until(599 * MS)
    assert level.silence_until(600 * MS)
    assert level.level_dbov == SILENT_DBOV
    assert not level.silence_until(700 * MS)


def test_what_was_decoded_counts_and_not_what_was_told() -> None:
    level = SpeechLevel()
    level.measured(-200.0, 0, 20 * MS)
    assert level.level_dbov == SILENT_DBOV
    assert feed(level, [1] * 10) == [False] * 10
    assert [level.measured(-20.0, n * 20 * MS, 20 * MS) for n in range(3)] == [False, False, True]


def test_jobs_are_told_who_speaks_by_the_publishers_levels(desk: Any) -> None:
    desk.announce(desk.media("voice_alice_1", VOICE))
    desk.events.clear()
    for sequence in range(40):
        loud = sequence < 10
        extensions = ((1, bytes([0x80 | 20 if loud else 90])),)
        desk.rtp(
            VOICE, sequence, CELT_20MS, timestamp=960 * sequence, payload_type=111,
            extensions=extensions,
        )  # fmt: skip
        desk.run(20)
    assert desk.events == [VoiceHeard("alice", True), VoiceHeard("alice", False)]


def test_an_extension_of_another_size_or_a_sections_name_is_no_level(desk: Any) -> None:
    desk.announce(desk.media("voice_alice_1", VOICE))
    desk.events.clear()
    for sequence in range(40):
        value = b"\x01\x02" if sequence % 2 else b"0"
        desk.rtp(
            VOICE, sequence, CELT_20MS, timestamp=960 * sequence, payload_type=111,
            extensions=((1, value),),
        )  # fmt: skip
        desk.run(20)
    assert desk.events == []
