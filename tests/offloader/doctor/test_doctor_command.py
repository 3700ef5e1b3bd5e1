"""`offloader doctor`: exit codes, JSON, what is written and that secrets are told to nobody."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from offloader.cli.config_docs import sample_file
from offloader.cli.main import main
from offloader.doctor.finding import Finding, note, ok, warning
from offloader.doctor.step import Context, Step
from offloader.doctor.writing import CannotWrite, changed, write
from offloader.settings import read_settings

Configured = Callable[[str], Path]
GOOD = '[jobs]\napi_type = "process"\n'
SEEN: list[Context] = []


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configured:
    """A configuration file, and no variable of this shell."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STORE_DATASOURCE", str(tmp_path / "offloader.db"))

    def make(text: str) -> Path:
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return make


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The only step there is finds what is given."""

    def use(*findings: Finding) -> None:
        async def look(context: Context) -> Sequence[Finding]:
            SEEN.append(context)
            return findings

        SEEN.clear()
        monkeypatch.setattr("offloader.cli.doctor.all_steps", lambda: (Step("made", "Made", look),))

    return use


def run(path: Path, *arguments: str) -> int:
    return main(["doctor", "--config", str(path), *arguments])


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (GOOD, 0),
        (GOOD + "[jobs.process]\nmisspelt = 1\n", 4),
        (GOOD + "post_call_slots = -1\n", 5),
    ],
)
def test_the_worst_verdict_is_the_exit_code(
    text: str, code: int, configured: Configured, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(configured(text), "--only", "config") == code

    told = capsys.readouterr()
    assert told.err.startswith("offloader: doctor: ") is (code != 0)
    assert ("FAILURE" in told.out, "WARNING" in told.out) == (code == 5, code == 4)


@pytest.mark.documents("a-step-that-the-doctor-does-not-know")
def test_an_unknown_step_is_bad_usage(
    configured: Configured, capsys: pytest.CaptureFixture[str], documented: Any
) -> None:
    assert run(configured(GOOD), "--only", "config,nope") == 2
    documented("a-step-that-the-doctor-does-not-know", capsys.readouterr().err.splitlines()[-1])


def test_skip_leaves_steps_out(configured: Configured, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(configured(GOOD), "--only", "config, clock", "--skip", "clock,store") == 0
    assert "(clock)" not in capsys.readouterr().out


def test_json_is_one_document_with_the_exit_code(
    configured: Configured, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(configured(GOOD + "post_call_slots = -1\n"), "--only", "config", "--json")

    document = json.loads(capsys.readouterr().out)
    assert code == document["exit_code"] == 5
    assert [step["name"] for step in document["steps"]] == ["config"]


@pytest.mark.parametrize("way", ["option", "file", "variable"])
def test_a_token_reaches_the_steps_and_no_output(
    way: str,
    configured: Configured,
    measured: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    token = "t0k3nt0k3nt0k3nt0k3nt0k3nt"
    measured(ok("made_ok", "it"))
    arguments = {"option": ["--token", token], "file": ["--token-file", str(tmp_path / "t")]}.get(
        way, []
    )
    (tmp_path / "t").write_text(token + "\n")
    if way == "variable":
        monkeypatch.setenv("OFFLOADER_DOCTOR_TOKEN", token)

    assert run(configured(GOOD), "--json", *arguments) == 0

    assert [context.token for context in SEEN] == [token]
    told = capsys.readouterr()
    assert token not in told.out + told.err + repr(SEEN[0])


def test_a_token_file_that_cannot_be_read_is_an_error_that_names_it(
    configured: Configured, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(configured(GOOD), "--token-file", str(tmp_path / "gone")) == 1
    assert f"--token-file: {tmp_path / 'gone'}: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url",
    ["chat.example.com", "ftp://chat", "https://me:p4ss@chat", "http://[::1", "https://chat:x"],
)
def test_a_site_url_has_to_be_one(
    url: str, configured: Configured, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(configured(GOOD), "--site-url", url) == 2
    told = capsys.readouterr().err
    assert "should be a URL such as https://chat.example.com" in told
    assert "p4ss" not in told


FILE = """\
# ours: ask Ada before changing
[api]
http.listen_address = ":4545"   # open to the server only

[jobs]
api_type = "process"
max_concurrent_jobs = 2   # guessed
"""


def test_write_puts_measured_values_in_and_leaves_the_rest_as_it_was(
    configured: Configured, measured: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    path = configured(FILE)
    path.chmod(0o640)
    values: dict[str, Any] = {"jobs.max_concurrent_jobs": 7, "worker.slots": 3}
    measured(note("made_note", "calls", settings=values))

    assert run(path, "--write", "--yes") == 0

    assert path.read_text() == FILE.replace(
        "max_concurrent_jobs = 2 ", "max_concurrent_jobs = 7 "
    ) + ("\n[worker] # by `offloader doctor --write`\nslots = 3\n")
    assert path.with_name("config.toml.bak").read_text() == FILE
    assert path.stat().st_mode & 0o777 == 0o640
    told = capsys.readouterr().out
    assert "-max_concurrent_jobs = 2   # guessed\n+max_concurrent_jobs = 7   # guessed\n" in told


def test_write_twice_gives_the_same_file(
    configured: Configured, measured: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    path = configured(FILE)
    measured(
        note("made_note", "calls", settings={"jobs.max_concurrent_jobs": 7, "worker.slots": 3})
    )
    run(path, "--write", "--yes")
    once = path.read_text()
    capsys.readouterr()

    assert run(path, "--write", "--yes") == 0

    assert path.read_text() == once
    assert path.with_name("config.toml.bak").read_text() == FILE  # of the first time still
    assert "nothing to change" in capsys.readouterr().out


def test_write_makes_a_file_where_there_is_none(
    configured: Configured, measured: Callable[..., None], tmp_path: Path
) -> None:
    path = tmp_path / "new.toml"
    measured(note("made_note", "calls", settings={"jobs.max_concurrent_jobs": 4}))

    assert run(path, "--write", "--yes") == 0

    assert read_settings(path, {}).settings.jobs.max_concurrent_jobs == 4
    assert not path.with_name("new.toml.bak").exists()
    assert path.stat().st_mode & 0o777 == 0o644  # the service's user reads what root has made


def test_write_refuses_what_the_service_would_refuse(
    configured: Configured, measured: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    path = configured(FILE)
    measured(note("made_note", "calls", settings={"jobs.max_concurrent_jobs": -1}))

    assert run(path, "--write", "--yes") == 1

    assert path.read_text() == FILE
    assert "not written, the service would refuse it" in capsys.readouterr().err
    assert [each.name for each in path.parent.iterdir()] == ["config.toml"]


def test_write_says_where_a_variable_takes_the_place_of_the_file(
    configured: Configured,
    measured: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("JOBS_MAXCONCURRENTJOBS", "3")
    measured(note("made_note", "calls", settings={"jobs.max_concurrent_jobs": 7}))

    run(configured(FILE), "--write", "--yes")

    assert "JOBS_MAXCONCURRENTJOBS in this environment takes the place" in capsys.readouterr().out


def test_write_prints_what_to_set_in_mattermost(
    configured: Configured, measured: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = {
        "LiveCaptionsModelSize": "tiny",
        "JobServiceURL": "http://jobs.example.com:4545",
        "EnableLiveCaptions": False,
        "MM_CALLS_JOB_SERVICE_IMAGE_REGISTRY": "registry.example.com/a b",
    }
    measured(warning("made_warning", "models", plugin=plugin))

    assert run(configured(FILE), "--write", "--yes") == 4

    out = capsys.readouterr().out
    assert out[out.index("In Mattermost") :] == (
        "In Mattermost, System Console > Plugins > Calls (restart the plugin afterwards):\n"
        "  Job service URL: http://jobs.example.com:4545\n"
        "  Enable live captions: false\n"
        "  Live captions: Model size: tiny\n"
        "or in the environment of the Mattermost server:\n"
        "  MM_CALLS_LIVE_CAPTIONS_MODEL_SIZE=tiny\n"
        "  MM_CALLS_JOB_SERVICE_URL=http://jobs.example.com:4545\n"
        "  MM_CALLS_ENABLE_LIVE_CAPTIONS=false\n"
        "  MM_CALLS_JOB_SERVICE_IMAGE_REGISTRY='registry.example.com/a b'\n"
    )


def test_write_with_json_tells_what_it_did(
    configured: Configured, measured: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    path = configured(FILE)
    measured(note("made_note", "calls", settings={"jobs.max_concurrent_jobs": 7}))

    run(path, "--write", "--json")

    written = json.loads(capsys.readouterr().out)["written"]
    assert written["file"] == str(path)
    assert written["written"] is True
    assert written["backup"] == f"{path}.bak"
    assert "+max_concurrent_jobs = 7" in written["diff"]


def test_what_was_found_is_told_as_json_though_it_cannot_be_written(
    configured: Configured, measured: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    measured(note("made_note", "calls", settings={"jobs.max_concurrent_jobs": -1}))

    assert run(configured(FILE), "--write", "--json") == 1

    document = json.loads(capsys.readouterr().out)
    assert (document["exit_code"], document["written"]) == (1, None)
    assert document["steps"][0]["findings"][0]["code"] == "made_note"


def test_line_ends_of_the_file_stay(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"[jobs]\r\n# ours\r\nmax_concurrent_jobs = 2  # two\r\n")
    before, after = changed(path, {"jobs.max_concurrent_jobs": 7})
    write(path, before, after, {})
    assert path.read_bytes() == b"[jobs]\r\n# ours\r\nmax_concurrent_jobs = 7  # two\r\n"


def test_what_somebody_else_wrote_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(GOOD)
    before, after = changed(path, {"jobs.max_concurrent_jobs": 7})
    path.write_text(GOOD + "post_call_slots = 1\n")

    with pytest.raises(CannotWrite, match="somebody has changed it meanwhile"):
        write(path, before, after, {})

    assert path.read_text() == GOOD + "post_call_slots = 1\n"


@pytest.mark.parametrize("content", [b"[jobs", b"\xff"])
def test_a_file_that_is_no_toml_is_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(CannotWrite, match=r"config\.toml"):
        changed(path, {"jobs.max_concurrent_jobs": 7})


def test_dotted_keys_of_the_sample_are_changed_in_their_place(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(sample_file())
    values = {"jobs.max_concurrent_jobs": 7, "api.http.listen_address": ":1", "worker.slots": 2}

    before, after = changed(path, values)

    wanted = before.replace("\nmax_concurrent_jobs = 2\n", "\nmax_concurrent_jobs = 7\n")
    wanted = wanted.replace('http.listen_address = ":4545"', 'http.listen_address = ":1"')
    assert after == wanted.replace('\nslots = "auto"\n', "\nslots = 2\n")


def test_what_the_file_says_already_stays_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[jobs]\nmax_concurrent_jobs = 0x7  # seven\n")
    before, after = changed(path, {"jobs.max_concurrent_jobs": 7})
    assert after == before
