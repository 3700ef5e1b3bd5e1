"""What the bots are given: the world, deliberate faults, and the plan's fitting."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from testbed.bots.__main__ import fit
from testbed.bots.faults import FaultError, parse_faults
from testbed.bots.world import WorldError, read_world
from testbed.scenario import PLANS
from testbed.speech.clips import CLIPS_DIRECTORY, load_clips

BOTS = ("alice", "bob", "carol")
USER = {
    "user_id": "u1",
    "token": "secret-token",
    "username": "ada",
    "first_name": "Ada",
    "last_name": "Love",
}
WORLD: dict[str, Any] = {"channel_id": "c1", "host": "alice", "users": {"alice": USER}}


def _write(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document))
    return path


def test_the_world_is_read_and_tokens_are_not_shown(tmp_path: Path) -> None:
    world = read_world(_write(tmp_path / "world.json", WORLD))
    assert world.users["alice"].user_id == "u1"
    assert "secret-token" not in repr(world)


@pytest.mark.parametrize(
    ("first", "last", "tile", "transcript"),
    [
        ("Ada", "Love", "Ada Love", "Ada Love"),
        ("Ada", "", "ada", "Ada"),
        ("", "Love", "ada", "Love"),
        ("", "", "ada", "ada"),
    ],
)
def test_tiles_need_both_names_and_transcripts_take_either(
    tmp_path: Path, first: str, last: str, tile: str, transcript: str
) -> None:
    user = USER | {"first_name": first, "last_name": last}
    path = _write(tmp_path / "world.json", WORLD | {"users": {"alice": user}})
    alice = read_world(path).users["alice"]
    assert (alice.tile_name, alice.transcript_name) == (tile, transcript)


def test_an_unusable_world_is_named_with_what_is_missing(tmp_path: Path) -> None:
    path = _write(tmp_path / "world.json", {"channel_id": "c1", "users": {}})
    with pytest.raises(WorldError, match=r"world\.json: 'host' is missing"):
        read_world(path)
    with pytest.raises(WorldError, match=r"none\.json: cannot be read"):
        read_world(tmp_path / "none.json")


def test_faults_are_read() -> None:
    faults = parse_faults(["delay:bob:0.3", "swap:alice:carol", "key:bob"], bots=BOTS)
    assert faults.wrong_key == {"bob"}
    assert faults.delay_s == {"bob": 0.3}
    assert [faults.author(bot) for bot in BOTS] == ["carol", "bob", "alice"]


@pytest.mark.parametrize(
    "text", ["", "delay:bob", "delay:bob:soon", "delay:zoe:1", "swap:alice", "key:zoe"]
)
def test_a_fault_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(FaultError, match="should be delay:BOT:SECONDS, swap:BOT:BOT or key:BOT"):
        parse_faults([text], bots=BOTS)


@pytest.mark.parametrize("plan", PLANS.values(), ids=lambda plan: plan.name)
def test_the_bundled_clips_fit_every_plan_as_it_is(plan: Any) -> None:
    assert fit(plan, load_clips(CLIPS_DIRECTORY, speakers=BOTS)) == plan
