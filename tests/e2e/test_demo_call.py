"""The whole product on loopback: a short call is recorded, transcribed, captioned, and judged by content."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from testbed.demo.options import DemoOptions
from testbed.demo.run import DemoResult, run_demo
from testbed.demo.show import Show
from testbed.ports import Ports

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(200)]


async def _run(
    output: Path, *, crash_offloader_at_s: float | None = None
) -> tuple[DemoResult, str]:
    printed = io.StringIO()
    show = Show(Console(file=printed, width=120))
    options = DemoOptions(
        output=output,
        scenario="short",
        ports=Ports.free(),
        crash_offloader_at_s=crash_offloader_at_s,
    )
    return await run_demo(options, show), printed.getvalue()


@pytest.mark.alone
async def test_a_call_comes_back_as_recording_transcript_and_captions(tmp_path: Path) -> None:
    result, printed = await _run(tmp_path)

    assert [f"{check.name}: {check.detail}" for check in result.failed] == []
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["ok"]
    assert {process["name"] for process in summary["processes"]} == {
        "sfu",
        "plugin",
        "offloader",
        "bots",
        "recorder",
        "transcriber",
    }
    for name in ("recording.mp4", "transcript.vtt", "transcript.txt", "captions.jsonl"):
        assert (tmp_path / name).stat().st_size > 0
    for process in summary["processes"]:
        assert (tmp_path / "logs" / f"{process['name']}.log").is_file()
        assert process["cpu_s"] > 0
    assert " s)" in printed, "captions are printed with their lag"
    assert not (tmp_path / "work").exists(), "a good run leaves only results"


@pytest.mark.slow
async def test_a_job_service_killed_in_mid_call_comes_back_and_nobody_notices(
    tmp_path: Path,
) -> None:
    result, printed = await _run(tmp_path, crash_offloader_at_s=5)

    assert "kill -9 of the job service" in printed
    assert [f"{check.name}: {check.detail}" for check in result.failed] == []
    log = (tmp_path / "logs" / "offloader.log").read_text().splitlines()
    records = [json.loads(line) for line in log]
    (adopted,) = [record for record in records if record["event"] == "supervisor.adopted"]
    finished = [record for record in records if record["event"] == "job.finished"]
    assert sorted(adopted["jobs"]) == sorted(record["job_id"] for record in finished)
    assert [(r["stop_reason"], r["exit_code"], r["unpublished"]) for r in finished] == [
        ("completed", 0, False)
    ] * 2
