"""Monday at nine: two hundred jobs within a second while five hundred follow the events.

How fast the machine is decides about seconds, so they are bounded far above what is asked of one that does
nothing else (`python -m testbed.load monday` judges by that); counts are exact.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.load.monday import Monday, monday

PATIENT = Monday(answered_within_s=45.0)
"""Refusals too come within the plugin's minute."""


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("engine", "store", "needs"),
    [("kubernetes", "sqlite", ()), ("celery", "postgresql", ("postgres", "redis_server"))],
)
async def test_two_hundred_jobs_in_a_second(
    tmp_path: Path, engine: str, store: str, needs: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    for fixture in needs:
        request.getfixturevalue(fixture)  # is it on this machine?
    report = await monday(tmp_path, engine=engine, store=store, wanted=PATIENT)
    assert report["complaints"] == []


GOOD = {
    "answers": {
        "status": {"200": 150, "500": 50},
        "refusals": {"failed to create recording job: max concurrent jobs reached": 50},
    },
    "late": 0,
    "latest_refusal_s": 5.4,
    "unanswered": 0,
    "refused": 50,
    "streams": 500,
    "broken_streams": 0,
    "events": {"job": 225_000, "dropped": 0},
}


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({}, ""),
        ({"answers": {"status": {"200": 149}, "refusals": {}}, "refused": 0}, "should have got in"),
        ({"late": 1}, "1 answers took longer than 2 s"),
        ({"latest_refusal_s": 7.1}, "a refusal took 7.1 s"),
        ({"unanswered": 1}, "1 had no answer within 60 s"),
        ({"refused": 51}, "1 refusals do not say"),
        ({"streams": 499}, "499 opened"),
        ({"broken_streams": 1}, "1 broke"),
        ({"events": {"job": 225_000, "dropped": 1}}, "events were dropped"),
        ({"events": {"job": 224_999}}, "events are missing"),
    ],
)
def test_whatever_is_not_as_it_is_asked_is_complained_about(
    wrong: dict[str, object], complaint: str
) -> None:
    found = Monday().complaints(GOOD | wrong)
    assert len(found) == (1 if complaint else 0), found
    assert all(complaint in text for text in found)
