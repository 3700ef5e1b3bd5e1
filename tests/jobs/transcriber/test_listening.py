"""Utterances lie at their true call time, across mutes, losses, drifting clocks and any batch size."""

from __future__ import annotations

import pytest

from jobs.transcriber.audio import samples_to_ns
from jobs.transcriber.capture import VoicePacket
from jobs.transcriber.listening import (
    Ear,
    UtteranceContinued,
    UtteranceEnded,
    UtteranceEvent,
    UtteranceStarted,
)
from jobs.transcriber.vad import load_silero

SECOND_NS = 1_000_000_000
PACKET_NS = 20_000_000


def _hear(ear: Ear, packets: list[VoicePacket], batch: int = 5) -> list[UtteranceEvent]:
    events: list[UtteranceEvent] = []
    for begin in range(0, len(packets), batch):
        events += ear.hear(packets[begin : begin + batch])
    return events


def _ends(events: list[UtteranceEvent]) -> list[UtteranceEnded]:
    return [event for event in events if isinstance(event, UtteranceEnded)]


@pytest.mark.parametrize("batch", [1, 5, 50, 10_000])
@pytest.mark.parametrize("name", ["alice", "bob", "carol"])
def test_each_sentence_is_an_utterance_that_starts_within_100_ms_of_the_truth(
    clips, name: str, batch: int
) -> None:
    clip, start_ns = clips[name], 90 * SECOND_NS
    ear = Ear(load_silero())
    ended = _ends(_hear(ear, clip.packets(start_ns=start_ns), batch) + ear.close())
    assert len(ended) == len(clip.sentences)
    for utterance, sentence in zip(ended, clip.sentences, strict=True):
        assert (utterance.onset_ns - start_ns) / 1e9 == pytest.approx(sentence.start_s, abs=0.1)
        assert (utterance.end_ns - start_ns) / 1e9 == pytest.approx(sentence.end_s, abs=0.15)


def test_the_audio_handed_on_is_gapless_and_begins_before_the_onset(clips) -> None:
    ear = Ear(load_silero())
    events = _hear(ear, clips["bob"].packets()) + ear.close()
    for position, event in enumerate(events):
        if not isinstance(event, UtteranceStarted):
            continue
        samples = len(event.samples)
        following = events[position + 1 :]
        end = next(e for e in following if isinstance(e, UtteranceEnded))
        for part in following[: following.index(end)]:
            assert isinstance(part, UtteranceContinued)
            samples += len(part.samples)
        heard_until_ns = event.audio_start_ns + samples_to_ns(samples)
        assert event.onset_ns - event.audio_start_ns == pytest.approx(3e8, abs=0.1e9)
        assert heard_until_ns == pytest.approx(end.heard_until_ns, abs=1e6)


def _sentence(clip, number: int) -> list[VoicePacket]:
    sentence = clip.sentences[number]
    first = round(sentence.start_s * 50) - 10
    last = round(sentence.end_s * 50)
    return clip.packets()[first:last]


def test_muting_right_after_the_last_word_ends_the_utterance(clips) -> None:
    ear = Ear(load_silero())
    packets = _sentence(clips["alice"], 1)
    events = _hear(ear, packets)
    assert not _ends(events)
    last_ns = packets[-1].end_ns
    for waited_ms in range(100, 700, 100):
        events += ear.silence(last_ns + waited_ms * 1_000_000)
    (end,) = _ends(events)
    assert end.end_ns == pytest.approx(last_ns, abs=0.1e9)
    assert ear.silence(last_ns + 10 * SECOND_NS) == []


def test_after_a_mute_time_is_taken_anew(clips) -> None:
    ear = Ear(load_silero())
    first = _sentence(clips["alice"], 1)
    pause_ns = 3600 * SECOND_NS + 7_654_321
    second = [VoicePacket(p.payload, p.call_ns + pause_ns, p.duration_ns) for p in first]
    early, late = _ends(_hear(ear, first + second) + ear.close())
    assert late.onset_ns - early.onset_ns == pytest.approx(pause_ns, abs=0.05e9)
    assert late.end_ns - early.end_ns == pytest.approx(pause_ns, abs=0.05e9)


def test_lost_packets_become_silence_and_shift_nothing(clips) -> None:
    clip = clips["carol"]
    kept = [p for index, p in enumerate(clip.packets()) if index % 20 != 7]
    ear = Ear(load_silero())
    ended = _ends(_hear(ear, kept) + ear.close())
    assert len(ended) == len(clip.sentences)
    for utterance, sentence in zip(ended, clip.sentences, strict=True):
        assert utterance.onset_ns / 1e9 == pytest.approx(sentence.start_s, abs=0.12)


def test_a_drifting_sender_clock_does_not_add_up(clips) -> None:
    """500 ppm over an hour would be 1.8 s."""
    ear = Ear(load_silero())
    clip = clips["bob"]
    onsets = []
    for repetition in range(3):
        base_ns = repetition * 1200 * SECOND_NS
        drifted = [
            VoicePacket(p.payload, base_ns + p.call_ns + p.call_ns // 2000, p.duration_ns)
            for p in clip.packets()
        ]
        onsets += [e.onset_ns - base_ns for e in _ends(_hear(ear, drifted))]
    for onset_ns, sentence in zip(onsets, clip.sentences * 3, strict=True):
        assert onset_ns / 1e9 == pytest.approx(sentence.start_s, abs=0.1)


def test_broken_packets_cost_only_themselves(clips) -> None:
    packets = clips["alice"].packets()
    packets[60] = VoicePacket(b"\xff\xff\xff", packets[60].call_ns, PACKET_NS)
    ear = Ear(load_silero())
    ended = _ends(_hear(ear, packets) + ear.close())
    assert ear.decoder.packets_broken == 1
    assert len(ended) == len(clips["alice"].sentences)
