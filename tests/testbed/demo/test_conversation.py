from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testbed.analysis.captions import Caption
from testbed.analysis.synthetic import synthetic_user
from testbed.bots.world import World
from testbed.demo.conversation import CallFailed, Conversation
from testbed.speech.clips import CLIPS_DIRECTORY, load_clips
from testbed.truth import TruthLog

START_NS = 5_000_000_000


class Fixture:
    """A conversation over a truth of one sentence of bob, 5 s after the clock's zero."""

    def __init__(self, directory: Path) -> None:
        self.shown: list[tuple[Caption, float | None]] = []
        self.captions_file = directory / "captions.jsonl"
        truth = directory / "truth.jsonl"
        log = TruthLog(truth)
        self.clip = load_clips(CLIPS_DIRECTORY, speakers=("alice", "bob", "carol"))["bob"][0]
        log.mark("join", "bob", 0, session_id="s1")
        log.utterance("bob", self.clip, START_NS)
        log.close()
        self.epoch_offset_ns = json.loads(truth.read_text().splitlines()[0])["epoch_offset_ns"]
        users = {bot: synthetic_user(bot) for bot in ("alice", "bob")}
        self.conversation = Conversation(
            World("c1", "alice", users),
            truth_file=truth,
            captions_file=self.captions_file,
            on_caption=lambda caption, lag_s: self.shown.append((caption, lag_s)),
        )

    def job_state(self, **changes: Any) -> dict[str, Any]:
        start_ms = (self.epoch_offset_ns + 1_000_000_000) // 1_000_000
        state = {
            "event": "job_state",
            "bot": "alice",
            "kind": "recording",
            "start_at_ms": start_ms,
            "end_at_ms": 0,
            "error": "",
        }
        return state | changes


@pytest.fixture
def fixture(tmp_path: Path) -> Iterator[Fixture]:
    made = Fixture(tmp_path)
    yield made
    made.conversation.close()


def _caption(fixture: Fixture, *, bot: str = "alice") -> dict[str, Any]:
    end_ns = START_NS + round(fixture.clip.words[-1].end_s * 1e9)
    return {
        "event": "caption",
        "bot": bot,
        "session_id": "s1",
        "text": fixture.clip.text,
        "received_ns": end_ns + 800_000_000,
    }


async def test_a_caption_is_shown_and_written_with_its_lag(fixture: Fixture) -> None:
    await fixture.conversation.tell(fixture.job_state())
    await fixture.conversation.tell(_caption(fixture))
    ((caption, lag_s),) = fixture.shown
    assert caption.speaker == synthetic_user("bob").transcript_name
    assert lag_s == pytest.approx(0.8, abs=0.002)
    written = json.loads(fixture.captions_file.read_text())
    assert written["lag_s"] == pytest.approx(0.8, abs=0.002)
    assert written["received_at_s"] == pytest.approx(
        4.0 + fixture.clip.words[-1].end_s + 0.8, abs=0.002
    )


async def test_every_caption_counts_once_although_all_bots_see_it(fixture: Fixture) -> None:
    await fixture.conversation.tell(fixture.job_state())
    for bot in ("alice", "bob"):
        await fixture.conversation.tell(_caption(fixture, bot=bot))
    assert len(fixture.shown) == 1


@pytest.mark.documents("a-call-of-the-demo-that-did-not-go-as-planned/7")
async def test_a_failed_job_ends_the_wait_at_once(fixture: Fixture, documented: Any) -> None:
    waiting = asyncio.create_task(
        fixture.conversation.wait_for("the start", lambda: False, limit_s=20)
    )
    await fixture.conversation.tell(fixture.job_state(error="no room"))
    with pytest.raises(CallFailed) as failed:
        await waiting
    documented("a-call-of-the-demo-that-did-not-go-as-planned/7", str(failed.value))


@pytest.mark.documents("a-call-of-the-demo-that-did-not-go-as-planned")
async def test_a_wait_has_a_limit_and_says_for_what(fixture: Fixture, documented: Any) -> None:
    with pytest.raises(CallFailed) as late:
        await fixture.conversation.wait_for("the start", lambda: False, limit_s=0.01)
    documented("a-call-of-the-demo-that-did-not-go-as-planned", str(late.value))


async def test_a_wait_ends_when_the_awaited_state_comes(fixture: Fixture) -> None:
    conversation = fixture.conversation
    waiting = asyncio.create_task(
        conversation.wait_for("the end", lambda: conversation.ended("recording"), limit_s=20)
    )
    await conversation.tell(fixture.job_state())
    assert conversation.started("recording")
    await conversation.tell(fixture.job_state(end_at_ms=fixture.job_state()["start_at_ms"] + 9000))
    await waiting
    assert conversation.call().duration_s == pytest.approx(9.0)
