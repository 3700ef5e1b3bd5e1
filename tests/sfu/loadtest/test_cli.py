"""The command line: what it understands, what it refuses, what it leaves behind."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sfu.__main__ as process
from sfu.loadtest import cli, recordings
from sfu.loadtest.plan import LoadPlan
from sfu.loadtest.recordings import Recordings, RecordingsError
from sfu.loadtest.run import RunError, RunOptions

LOCAL = ["--url", "http://127.0.0.1:8045/"]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[LoadPlan, RunOptions]]:
    """What would have been run."""
    runs: list[tuple[LoadPlan, RunOptions]] = []

    async def run_load(plan: LoadPlan, options: RunOptions, say: Any) -> dict[str, Any]:
        runs.append((plan, options))
        return {"some": "result"}

    monkeypatch.setattr(cli, "run_load", run_load)
    monkeypatch.setattr(cli, "make_table", lambda result: "the table\n")
    return runs


def test_loadtest_is_a_subcommand_of_the_sfu(monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["sfu", "loadtest", "--preset", "list"])
    assert process.main() == 0
    assert "5x200-u2-screen" in capsys.readouterr().out


def test_options_become_a_plan(ran: list[tuple[LoadPlan, RunOptions]], capsys) -> None:
    arguments = ["--calls", "3", "--users-per-call", "4", "--unmuted", "2", "--screen-sharing", "1"]
    arguments += ["--join-rate", "7", "--duration", "9", "--loss", "2.5", "--processes", "2"]
    arguments += ["--cpus", "1,3", "--video-kbps", "800", "--no-dc-signaling", "--recordings", "1"]
    assert cli.main(LOCAL + arguments) == 0
    ((plan, options),) = ran
    assert (plan.calls, plan.users_per_call, plan.unmuted, plan.screen_sharing) == (3, 4, 2, 1)
    assert (plan.join_rate, plan.duration_s, plan.loss_percent) == (7, 9, 2.5)
    assert (plan.video_bps, plan.dc_signaling, plan.url) == (
        800_000,
        False,
        "http://127.0.0.1:8045",
    )
    assert (options.processes, options.cpus, options.recordings) == (2, (1, 3), 1)
    assert capsys.readouterr().out == "the table\n"


def test_session_ids_are_as_long_as_mattermosts_and_have_no_underscore(
    ran: list[tuple[LoadPlan, RunOptions]],
) -> None:
    cli.main(LOCAL)
    cli.main(LOCAL)
    prefixes = [plan.session_prefix for plan, _ in ran]
    assert {len(prefix) for prefix in prefixes} == {20}
    assert not any("_" in prefix for prefix in prefixes)
    assert prefixes[0] != prefixes[1]


def test_the_key_comes_from_the_environment_too(
    ran: list[tuple[LoadPlan, RunOptions]], monkeypatch
) -> None:
    monkeypatch.setenv("LOADTEST_AUTH_KEY", "e" * 32)
    cli.main(LOCAL)
    assert ran[0][0].auth_key == "e" * 32


def test_a_preset_is_scaled_and_named(ran: list[tuple[LoadPlan, RunOptions]]) -> None:
    cli.main([*LOCAL, "--preset", "100x8-screen", "--scale", "0.1"])
    ((plan, options),) = ran
    assert (plan.calls, plan.users_per_call, plan.screen_sharing) == (10, 8, 10)
    assert options.preset == "100x8-u2-screen"


@pytest.mark.usefixtures("ran")
def test_the_figures_are_written_as_json(tmp_path: Path) -> None:
    assert cli.main([*LOCAL, "--json", str(tmp_path / "r.json")]) == 0
    assert json.loads((tmp_path / "r.json").read_text()) == {"some": "result"}


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(
            ["--url", "sfu:8045"],
            marks=pytest.mark.documents("an-option-of-the-load-test-that-cannot-be"),
        ),
        pytest.param(
            ["--calls", "0"],
            marks=pytest.mark.documents("an-option-of-the-load-test-that-cannot-be/2"),
        ),
        pytest.param(
            ["--processes", "0"],
            marks=pytest.mark.documents("an-option-of-the-load-test-that-cannot-be/10"),
        ),
        pytest.param(
            ["--unmuted", "3"],
            marks=pytest.mark.documents("an-option-of-the-load-test-that-cannot-be/3"),
        ),
        pytest.param(
            ["--recordings", "2"],
            marks=pytest.mark.documents("an-option-of-the-load-test-that-cannot-be/11"),
        ),
        pytest.param(
            ["--join-rate", "0"],
            marks=pytest.mark.documents("an-option-of-the-load-test-that-cannot-be/4"),
        ),
        pytest.param(
            ["--duration", "0"],
            marks=pytest.mark.documents("an-option-of-the-load-test-that-cannot-be/5"),
        ),
        pytest.param(
            ["--preset", "7x7"],
            marks=pytest.mark.documents("an-option-of-the-load-test-that-cannot-be/7"),
        ),
        pytest.param(
            ["--preset", "100x8", "--scale", "2"],
            marks=pytest.mark.documents("an-option-of-the-load-test-that-cannot-be/8"),
        ),
        pytest.param(
            ["--cpus", "two"],
            marks=pytest.mark.documents("an-option-of-the-load-test-that-cannot-be/9"),
        ),
    ],
)
def test_wrong_options_are_named(arguments: list[str], capsys, documented) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.main([*([] if "--url" in arguments else LOCAL), *arguments])
    assert exit_.value.code == 2
    documented.marked(capsys.readouterr().err.rpartition(" error: ")[2].strip())


def test_a_run_that_cannot_be_made_says_why(monkeypatch, capsys) -> None:
    async def run_load(*_: Any) -> dict[str, Any]:
        raise RunError("the SFU does not answer")

    monkeypatch.setattr(cli, "run_load", run_load)
    assert cli.main(LOCAL) == 1
    assert capsys.readouterr().err == "sfu loadtest: the SFU does not answer\n"


@pytest.fixture
def plan() -> LoadPlan:
    return LoadPlan(
        url="http://127.0.0.1:1",
        client_id="c",
        auth_key="k" * 32,
        call_prefix="call",
        session_prefix="s",
    )


@pytest.mark.documents("recorded-calls-without-the-testbed")
async def test_recordings_without_the_testbed_are_refused(
    plan: LoadPlan, monkeypatch, documented
) -> None:
    monkeypatch.setattr(recordings.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RecordingsError) as refused:
        await Recordings(1).open(plan)
    documented("recorded-calls-without-the-testbed", str(refused.value))


@pytest.mark.documents("a-recorded-call-that-fails-in-the-load-test")
async def test_a_recording_that_says_nothing_is_given_up(
    plan: LoadPlan, monkeypatch, tmp_path: Path, documented
) -> None:
    silent = tmp_path / "python"
    silent.write_text("#!/bin/sh\nexec 3>&1\nexec cat > /dev/null\n")
    silent.chmod(0o755)
    monkeypatch.setattr(recordings, "_CALL_LIMIT_S", 0.01)
    monkeypatch.setattr(recordings.tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(silent))
    some = Recordings(1)
    try:
        with pytest.raises(RecordingsError) as error:
            await some.open(plan)
    finally:
        await some.take_down()
    documented("a-recorded-call-that-fails-in-the-load-test", str(error.value))


@pytest.mark.documents("a-recorded-call-that-fails-in-the-load-test/2")
async def test_a_recording_that_does_not_start_names_its_log(
    plan: LoadPlan, monkeypatch, tmp_path: Path, documented
) -> None:
    monkeypatch.setattr(recordings, "_MODULE", "testbed.no_such_module")
    monkeypatch.setattr(recordings.tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    some = Recordings(1)
    try:
        with pytest.raises(RecordingsError) as error:
            await some.open(plan)
    finally:
        await some.take_down()
    assert str(error.value) == f"recorded call 0: it has ended; see {tmp_path / '0'}"
    documented("a-recorded-call-that-fails-in-the-load-test/2", str(error.value))
    assert "no_such_module" in (tmp_path / "0" / "log").read_text()


def test_recorded_calls_come_first_under_their_own_ids(plan: LoadPlan) -> None:
    whole = replace(plan, calls=3, recorded_calls=("real",))
    assert [whole.call_id(call) for call in range(3)] == ["real", "call1", "call2"]
    assert LoadPlan.from_json(json.loads(json.dumps(whole.to_json()))) == whole
