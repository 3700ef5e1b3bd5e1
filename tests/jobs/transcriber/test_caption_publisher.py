"""Captions leave at eight a second, newest form first, finished utterances before growing ones."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from jobs.transcriber.caption_publisher import CaptionPublisher, LagSummary, summarise
from jobs.transcriber.caption_speaker import CaptionMessage

pytestmark = pytest.mark.looptime


class LoopClock:
    """Virtual time as a clock."""

    def monotonic_ns(self) -> int:
        return round(asyncio.get_running_loop().time() * 1e9)

    def utc_now(self):
        raise NotImplementedError


class Sink:
    def __init__(self) -> None:
        self.sent: list[tuple[float, str, str, float]] = []

    async def send_caption(self, *, session_id: str, text: str, new_audio_len_ms: float) -> None:
        at_s = asyncio.get_running_loop().time()
        self.sent.append((at_s, session_id, text, new_audio_len_ms))


def message(
    session_id: str, line: int, text: str, *, final: bool = False, until_s: float = 0, ms: float = 0
) -> CaptionMessage:
    return CaptionMessage(session_id, line, text, final, round(until_s * 1e9), ms)


def make() -> tuple[CaptionPublisher, Sink]:
    sink = Sink()
    start_ns = LoopClock().monotonic_ns()
    publisher = CaptionPublisher(
        sink, clock=LoopClock(), call_ns_to_monotonic_ns=lambda call_ns: start_ns + call_ns
    )
    return publisher, sink


async def _drain(publisher: CaptionPublisher) -> None:
    publisher.close()
    await publisher.run()


async def test_a_waiting_line_is_replaced_by_its_newer_form_and_its_audio_adds_up() -> None:
    publisher, sink = make()
    publisher.offer(message("a", 0, "one", ms=500))
    publisher.offer(message("a", 0, "one two", ms=300))
    await _drain(publisher)
    assert [(text, ms) for _, _, text, ms in sink.sent] == [("one two", 800)]


async def test_full_lines_are_all_sent_in_order() -> None:
    publisher, sink = make()
    for line in range(4):
        publisher.offer(message("a", line, f"line {line}"))
    await _drain(publisher)
    assert [text for _, _, text, _ in sink.sent] == ["line 0", "line 1", "line 2", "line 3"]


async def test_at_most_eight_a_second() -> None:
    publisher, sink = make()
    for speaker in range(12):
        publisher.offer(message(str(speaker), 0, "x"))
    await _drain(publisher)
    times = [at_s for at_s, *_ in sink.sent]
    assert len(times) == 12
    assert all(later - earlier >= 0.1249 for earlier, later in itertools.pairwise(times))


async def test_finished_utterances_come_first_then_the_oldest_words() -> None:
    publisher, sink = make()
    publisher.offer(message("a", 0, "growing", until_s=1))
    publisher.offer(message("b", 0, "later", final=True, until_s=3))
    publisher.offer(message("c", 0, "earlier", final=True, until_s=2))
    await _drain(publisher)
    assert [text for _, _, text, _ in sink.sent] == ["earlier", "later", "growing"]


async def test_a_speaker_nobody_can_keep_up_with_loses_old_lines_and_they_are_counted() -> None:
    publisher, sink = make()
    for line in range(20):
        publisher.offer(message("a", line, f"line {line}", ms=100))
    await _drain(publisher)
    assert publisher.lines_dropped == 12
    assert sink.sent[-1][2] == "line 19"
    assert sum(heard_ms for *_, heard_ms in sink.sent) == 2000, "their audio was heard"


async def test_lag_is_from_the_end_of_the_last_word_to_sending() -> None:
    publisher, _ = make()
    sending = asyncio.create_task(publisher.run())
    await asyncio.sleep(2.0)
    publisher.offer(message("a", 0, "x", until_s=1.25))
    publisher.offer(message("b", 0, "y", until_s=1.5, final=True))
    await asyncio.sleep(1)
    publisher.close()
    await sending
    assert publisher.final_lags() == LagSummary(1, 0.5, 0.5)
    assert publisher.partial_lags() == LagSummary(1, pytest.approx(0.875), pytest.approx(0.875))


def test_percentiles() -> None:
    assert summarise([]) == LagSummary(0, 0.0, 0.0)
    assert summarise([index / 100 for index in range(101)]) == LagSummary(101, 0.5, 0.95)
