"""A client that registered itself attacks a live service while another client's call is recorded.

One call for each way to run jobs; canaries are looked for in what it leaves, too.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from testbed.analysis.checks import MIN_AV_PAIRS
from testbed.canary_visit import CanaryVisit
from testbed.demo.visitor import Party
from testbed.hostile_traps import BAIT, traps_set
from testbed.hostile_visit import HostileVisit
from testbed.ports import HOST, Ports

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.timeout(240),
]

KINDS = {
    "SSRF",
    "traversal",
    "others' jobs",
    "replayed ids",
    "floods",
    "slow bodies",
    "huge inputs",
}
LONGEST_S = 86_400


@pytest.fixture
def images_of(request: pytest.FixtureRequest) -> None:
    """Those of this release, where jobs are containers."""
    if request.node.callspec.params["backend"] == "docker":
        request.getfixturevalue("own_images")


@pytest.mark.parametrize("backend", ["process", "docker"])
@pytest.mark.usefixtures("images_of")
async def test_a_hostile_client_gets_nothing_and_the_recording_beside_it_is_whole(
    tmp_path: Path, backend: str, record_call, traces, capsys
) -> None:
    async with (
        traps_set(tmp_path / "traps") as traps,
        CanaryVisit(tmp_path, traces, crash=True, bundle=backend == "process") as canaries,
    ):
        ports = Ports.free()
        site = f"https://{HOST}:{ports.plugin}" if backend == "docker" else None
        visit = HostileVisit(traps, site_url=site)
        result = await record_call(backend, Party(canaries, visit), ports)
        hostile, probe = visit.hostile, visit.probe

        assert hostile.not_refused() == []
        assert set(hostile.counts()) == KINDS
        assert probe.failed == []
        assert len(probe.answered_s) > 20
        with capsys.disabled():
            told = f"{sum(hostile.counts().values())} attempts, /version p99 {probe.p99_s():.3f} s"
            sys.stdout.write(f"\n{backend}: {told}\n")

        assert visit.own is not None
        granted = visit.own.document
        assert granted["max_duration_sec"] <= LONGEST_S
        assert granted["input_data"]["width"] <= 3840
        assert b"LD_PRELOAD" in visit.log, "what was dropped is named"
        assert BAIT.encode() not in visit.log
        assert b"cannot be preloaded" not in visit.log
        assert BAIT not in json.dumps(visit.details)
        assert not any(BAIT.encode() in attempt.answer.body for attempt in hostile.attempts)
        assert traps.inner.requests == []
        assert not traps.marker.exists()
        assert traps.site.requests, "the caged job did run"

    # How exactly sound and picture fit is judged where nothing else runs; here none of them may be missing.
    failed = [check for check in result.failed if check.name != "sound and picture together"]
    assert [f"{check.name}: {check.detail}" for check in failed] == []
    assert result.summary["av_offset_s"]["pairs"] >= MIN_AV_PAIRS
    for attempt in hostile.attempts:
        canaries.search.look(f"API answers: {attempt.what} as hostile", attempt.answer.body)
    canaries.finish(tmp_path / "run")
    assert canaries.search.found == []
