"""Workers that transcribe after the call, as processes on a real broker; one of them is killed at it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobs.transcriber.capture import CapturedTrack
from jobs.transcriber.listening import UtteranceEnded
from testbed.fixed_cost_track import ENGINE_NAME, WORD
from testbed.tracks_elsewhere import OWNER, PARTICIPANT, Outcome, TrackSite, make_captures

MODELS = Path(__file__).parents[2] / "models"
MODEL = "tiny"
Captures = list[tuple[CapturedTrack, list[UtteranceEnded]]]


@pytest.fixture
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TrackSite]:
    """Two workers whose engine needs 0.7 s for a sentence, and an owner; on Redis, or on what the test names
    by an indirect parameter, a fixture."""
    broker = request.getfixturevalue(getattr(request, "param", "redis_server"))
    fixed = ("-m", "testbed.fixed_cost_track", "--seconds-per-piece", "0.7")
    site = TrackSite(
        tmp_path,
        models_dir=MODELS,
        transcriber_command=(sys.executable, *fixed),
        broker_url=broker.url,
    )
    try:
        await site.start(2)
        yield site
    finally:
        await site.stop()


@pytest.fixture
def captures(tmp_path: Path) -> Captures:
    return make_captures(tmp_path / "captures", speakers=3, sentences=8)


@pytest.mark.slow
@pytest.mark.timeout(150)
@pytest.mark.parametrize("site", ["redis_server", "rabbitmq"], indirect=True)
async def test_a_worker_that_is_killed_at_a_track_costs_no_word(
    site: TrackSite, captures: Captures, tmp_path: Path
) -> None:
    transcribing = asyncio.create_task(site.transcribe(captures, engine=ENGINE_NAME, model=MODEL))
    async with asyncio.timeout(60):
        killed = await site.busy_worker()
    await site.kill(killed)
    _check_complete(await transcribing, captures)
    assert "track.worker_lost" in site.log_of(OWNER).read_text()
    await site.stop()
    _check_secrecy(tmp_path, killed)


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_an_owner_that_is_killed_and_started_again_goes_on_where_it_was(
    site: TrackSite, captures: Captures
) -> None:
    transcribing = asyncio.create_task(site.transcribe(captures, engine=ENGINE_NAME, model=MODEL))
    async with asyncio.timeout(60):
        await site.busy_worker()
    await site.restart_owner()
    _check_complete(await transcribing, captures)


def _check_complete(outcome: Outcome, captures: Captures) -> None:
    """Everything was done, once, and by workers."""
    said = sorted((c.identity.session_id, u.onset_ns) for c, ended in captures for u in ended)
    assert sorted((s.session_id, s.start_ns) for s in outcome.segments) == said
    assert outcome.pieces == len(said)
    assert outcome.taken_back == 0


def _check_secrecy(directory: Path, killed: str) -> None:
    """Neither sound nor text nor name is left, but where a worker was killed, until it starts again."""
    written = {
        path: path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
        and "captures" not in path.parts
        and not {killed, "taken"} <= {*path.parts}
    }
    for path, content in written.items():
        for secret in (WORD, PARTICIPANT, "OpusHead"):
            assert secret.encode() not in content, path
    if not (directory / "redis").exists():
        return  # RabbitMQ: what it is told lies elsewhere
    told = b"".join(content for path, content in written.items() if "redis" in path.parts)
    assert b"calls.transcribe" in told
    for secret in ("session0", "user0", "voice-1"):
        assert secret.encode() not in told
