"""Tapes of pages become one sound in time; what recordings lack of it, or have besides, is found."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

import numpy as np
import pytest

from testbed.analysis.media import ANALYSIS_HZ, Sound
from testbed.browser_call.actor import Sending
from testbed.browser_call.listening import compare, tone
from testbed.browser_call.tapes import PageEvidence, Tape

BLOCK = 160
"""10 ms, as browsers give them."""


@dataclass
class _Person:
    """What the analysis wants to know of an actor."""

    pages: list[PageEvidence]
    sendings: list[Sending]
    shares: list[object] = field(default_factory=list)


def _pcm(samples: np.ndarray) -> bytes:
    return (samples * 32767).astype("<i2").tobytes()


def _noise(length_s: float) -> np.ndarray:
    return np.random.default_rng(7).normal(0, 0.1, round(length_s * ANALYSIS_HZ)).clip(-1, 1)


def _blocks(start_ms: float, count: int) -> list[list[float]]:
    """Times as browsers tell them: now and then two blocks at once."""
    return [[start_ms + 10 * n + 9 * (n % 2), BLOCK] for n in range(count)]


def test_blocks_follow_each_other_however_their_times_jitter() -> None:
    tape = Tape()
    samples = _noise(2)
    tape.add(_blocks(500, 200), _pcm(samples), origin_ns=0)
    sound = tape.sound(0)
    assert sound.start_s == pytest.approx(0.5, abs=0.01)
    assert sound.samples[: len(samples)] == pytest.approx(samples, abs=1e-3)


def test_where_blocks_are_missing_there_is_silence() -> None:
    tape = Tape()
    tape.add(_blocks(0, 50), _pcm(_noise(0.5)), origin_ns=0)
    tape.add(_blocks(1000, 50), _pcm(_noise(0.5)), origin_ns=0)
    sound = tape.sound(0)
    assert np.abs(sound.between(0.55, 0.95).samples).max() == 0
    assert np.abs(sound.between(1.1, 1.4).samples).max() > 0.1
    assert sound.end_s == pytest.approx(1.5, abs=0.02)


def test_a_page_has_its_own_clock() -> None:
    evidence = PageEvidence()
    heard = {"name": "voice", "rate": ANALYSIS_HZ, "blocks": _blocks(0, 10)}
    heard["base64"] = base64.b64encode(_pcm(_noise(0.1))).decode()
    seen = {"share": 2, "drawn": [[7, 12.5]]}
    evidence.add({"heard": [heard], "seen": [seen]}, origin_ns=3_000_000_000)
    assert evidence.tapes["voice"].sound(0).start_s == pytest.approx(3.0, abs=0.01)
    assert evidence.shows[2].drawn == [(7, 3_012_500_000)]


def _spoken(recorded: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Somebody talks from 1 to 3 s and is unmuted from 0.5 to 2 s: what is missing, what is too much."""
    sent = np.concatenate([np.zeros(ANALYSIS_HZ), _noise(2), np.zeros(ANALYSIS_HZ)])
    evidence = PageEvidence()
    evidence.tapes["voice"] = tape = Tape()
    tape.add(_blocks(0, 400), _pcm(sent), origin_ns=0)
    sending = Sending(500_000_000, 500_000_000, 2_000_000_000, 2_000_000_000)
    person = _Person([evidence], [sending])
    sound = Sound(recorded.astype(np.float32), ANALYSIS_HZ)
    heard = compare(sound, [person], zero_ns=0, length_s=4.0)
    assert heard.loud_s == pytest.approx(0.95, abs=0.1)
    return heard.missing_s, heard.stray_s


def _as_it_should_be() -> np.ndarray:
    recorded = np.zeros(4 * ANALYSIS_HZ)
    recorded[ANALYSIS_HZ : 2 * ANALYSIS_HZ] = _noise(2)[:ANALYSIS_HZ]
    return recorded


def test_a_recording_of_just_what_was_sent_is_whole() -> None:
    assert _spoken(_as_it_should_be()) == ((), ())


def test_a_hole_in_a_voice_is_found() -> None:
    recorded = _as_it_should_be()
    recorded[round(1.3 * ANALYSIS_HZ) : round(1.7 * ANALYSIS_HZ)] = 0
    missing_s, stray_s = _spoken(recorded)
    assert 1.4 <= missing_s[0] <= missing_s[-1] <= 1.6
    assert stray_s == ()


def test_a_voice_that_goes_on_while_muted_is_found() -> None:
    recorded = _as_it_should_be()
    recorded[2 * ANALYSIS_HZ : 3 * ANALYSIS_HZ] = _noise(2)[ANALYSIS_HZ:]
    missing_s, stray_s = _spoken(recorded)
    assert missing_s == ()
    assert stray_s[0] > 2.3
    assert stray_s[-1] == pytest.approx(2.95, abs=0.06)


def test_a_tone_is_told_from_another_one() -> None:
    times_s = np.arange(ANALYSIS_HZ) / ANALYSIS_HZ
    sound = Sound((0.1 * np.sin(2 * np.pi * 2500 * times_s)).astype(np.float32), ANALYSIS_HZ)
    assert tone(sound, 2500, 0.2, 0.8) == pytest.approx((0.1, 0.1), abs=0.005)
    assert tone(sound, 1000, 0.2, 0.8)[1] < 0.005
    assert tone(sound, 2500, 2.0, 3.0) == (0.0, 0.0)
