from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from clientauth.service import Identity
from foundation.clock import epoch_ms
from offloader.backends.base import Phase
from offloader.cli import output
from offloader.models import Job


async def test_the_list_shows_the_newest_first_and_what_became_of_them(served: Any) -> None:
    first = await served.running.create_job(call="a")
    served.running.backend.exit(first, 0)
    await served.running.check()
    served.running.clock.advance(seconds=60)
    second = await served.running.create_job(call="b", client="other")
    result = await served.run("jobs", "list")
    assert result.code == 0
    head, *lines = result.out.splitlines()
    assert head.split()[:4] == ["ID", "TYPE", "CLIENT", "STATE"]
    assert [line.split()[0] for line in lines] == [second, first]
    assert [line.split()[2] for line in lines] == ["other", "plugin"]
    assert "finished  completed  0" in lines[1]


async def test_filters_and_the_limit_reach_the_service(served: Any) -> None:
    for number in range(2):
        await served.running.create_job(call=f"c{number}")
    only = await served.run("jobs", "list", "--type", "transcribing", "--json")
    assert only.json == {"jobs": [], "more": False}
    limited = await served.run("jobs", "list", "--limit", "1", "--json")
    assert len(limited.json["jobs"]) == 1
    assert limited.json["more"] is True
    wrong = await served.run("jobs", "list", "--since", "yesterday")
    assert wrong.code == 1
    assert "since" in wrong.err
    assert (await served.run("jobs", "list", "--since", "2h")).code == 0


async def test_an_empty_list_says_so(served: Any) -> None:
    assert (await served.run("jobs", "list")).out == "no jobs\n"


async def test_one_job_is_shown_with_its_last_log_lines_and_no_secret(served: Any) -> None:
    served.running.backend.log = b"one\ntwo\n"
    job_id = await served.running.create_job()
    await served.running.check()
    result = await served.run("jobs", "show", job_id)
    assert f"job:         {job_id}" in result.out or job_id in result.out
    assert "to end by:" in result.out
    assert "client:     plugin" in result.out
    assert result.out.endswith("last log lines:\n  one\n  two\n")
    assert "hidden-token" not in result.out
    assert (await served.run("jobs", "show", job_id, "--json")).json["state"] == "running"


async def test_an_unknown_job_is_refused_with_the_command_that_lists_them(served: Any) -> None:
    for command in ("show", "logs", "stop", "artifacts", "republish", "retranscribe"):
        result = await served.run("jobs", command, "0123456789ab")
        assert result.code == 1
        assert result.out == ""
        assert result.err.startswith("offloader: no job 0123456789ab: `offloader jobs list`")


async def test_the_log_comes_byte_for_byte_and_follows_until_the_end(served: Any) -> None:
    served.running.backend.log = b"caf\xc3\xa9 \xff\n"
    job_id = await served.running.create_job()
    await served.running.check()
    assert (await served.run("jobs", "logs", job_id, "--json")).json["lines"] == ["café \ufffd"]
    served.running.backend.exit(job_id, 0)
    await served.running.check()
    followed = await served.run("jobs", "logs", "--follow", job_id, "--json")
    assert followed.json["lines"] == ["café \ufffd"]


async def test_stop_tells_the_job_and_says_what_it_does_now(served: Any) -> None:
    job_id = await served.running.create_job()
    await served.running.check()
    result = await served.run("jobs", "stop", job_id)
    assert result.out == f"job {job_id} is told to stop: it finishes its file and uploads it\n"
    await served.running.check()
    assert [job for job, _ in served.running.backend.stopped] == [job_id]


@pytest.mark.documents("a-file-that-exists-already")
async def test_artifacts_are_listed_and_fetched_and_never_overwrite(
    served: Any, tmp_path: Path, documented
) -> None:
    served.running.backend.files = {"rec/a.mp4": b"x" * 2000}
    job_id = await served.running.create_job()
    assert "rec/a.mp4  2.0 KiB" in (await served.run("jobs", "artifacts", job_id)).out
    target = tmp_path / "fetched"
    target.mkdir()
    fetch = ("jobs", "artifacts", job_id, "rec/a.mp4", "--output", str(target))
    assert (await served.run(*fetch)).code == 0
    assert (target / "a.mp4").read_bytes() == b"x" * 2000
    assert (target / "a.mp4").stat().st_mode & 0o777 == 0o600
    again = await served.run(*fetch)
    assert again.code == 1
    documented("a-file-that-exists-already", again.err.splitlines()[-1])


async def test_a_file_that_is_not_there_leaves_nothing_behind(served: Any, tmp_path: Path) -> None:
    job_id = await served.running.create_job()
    target = tmp_path / "fetched"
    target.mkdir()
    result = await served.run("jobs", "artifacts", job_id, "none", "--output", str(target))
    assert result.code == 1
    assert list(target.iterdir()) == []


async def test_republish_takes_the_token_from_a_file_or_standard_input(
    served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await served.running.create_job()
    job = await served.running.offloader.service.get(job_id, client=Identity("", admin=True))
    tokens: list[str | None] = []

    async def republish(job_id: str, *, client: Identity, auth_token: str | None) -> Job:
        tokens.append(auth_token)
        return job

    monkeypatch.setattr(served.running.offloader.service, "republish", republish)
    token = tmp_path / "token"
    token.write_text("t" * 26 + "\n")
    tried = await served.run("jobs", "republish", job_id, "--token-file", str(token))
    assert tried.code == 0, tried.err
    assert (await served.run("jobs", "republish", job_id)).code == 0
    assert tokens == ["t" * 26, None]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"two words")))
    refused = await served.run("jobs", "republish", job_id, "--token-file", "-")
    assert refused.code == 1
    assert "should hold one token" in refused.err
    missing = await served.run("jobs", "republish", job_id, "--token-file", f"{tmp_path}/none")
    assert "No such file" in missing.err


async def test_a_job_is_transcribed_again_and_shown_with_it(
    served: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = served.running
    job_id = await running.create_job(
        job_type="transcribing",
        input_data={"transcription_id": "t1", "site_url": "http://s", "auth_token": "x"},
    )
    running.backend.files = {"t1/artifacts/audio/a.ogg.index": b"x"}
    running.backend.exit(job_id, 0)
    await running.check()
    options = tmp_path / "options.json"
    options.write_text('{"OPENAI_API_KEY": "k3y", "OPENAI_MODEL": "whisper-1"}')
    token = tmp_path / "token"
    token.write_text("t" * 26)
    wish = ["--engine", "openai/whisper", "--engine-options", str(options), "--language", "de"]
    wish += ["--vocabulary", "Ada, Zürich", "--publish", "--token-file", str(token)]
    result = await served.run("jobs", "retranscribe", job_id, *wish)
    assert result.code == 0, result.err
    assert "t1/artifacts/again-" in result.out
    await running.check()
    ((_, variables),) = running.backend.retranscribed
    assert variables["OPENAI_API_KEY"] == "k3y"
    assert (variables["LANGUAGES"], variables["VOCABULARY"]) == ("de", "Ada,Zürich")
    assert variables["AUTH_TOKEN"] == "t" * 26
    shown = await served.run("jobs", "show", job_id)
    assert "transcribed again:" in shown.out
    assert "k3y" not in shown.out
    other = await served.run("jobs", "retranscribe", job_id, "--model", "small")
    assert (other.code, "again already" in other.err) == (1, True)


async def test_a_wish_that_cannot_be_is_bad_usage_or_refused(served: Any, tmp_path: Path) -> None:
    job_id = await served.running.create_job()
    token = await served.run("jobs", "retranscribe", job_id, "--token-file", "-")
    assert (token.code, "--publish" in token.err) == (2, True)
    wrong = tmp_path / "options.json"
    wrong.write_text("[]")
    refused = await served.run("jobs", "retranscribe", job_id, "--engine-options", str(wrong))
    assert (refused.code, "one JSON object" in refused.err) == (1, True)


async def test_nothing_to_publish_is_an_error(served: Any) -> None:
    job_id = await served.running.create_job()
    assert served.running.backend.observations[job_id].phase is Phase.RUNNING
    result = await served.run("jobs", "republish", job_id)
    assert result.code == 1
    assert "no result that waits" in result.err


async def test_a_hold_and_a_deletion_that_waits_are_shown_in_words(served: Any) -> None:
    running, posts = served.running, ["p" * 26, "q" * 26]
    held, doomed = [await running.create_job(call=post, post=post) for post in posts]
    for job_id in (held, doomed):
        running.backend.exit(job_id, 0)
    await running.check()
    before = (await served.run("jobs", "show", held)).out
    assert "deletion:" not in before
    await served.run("data", "hold", "--call", posts[0], "--reason", "case 7")
    running.backend.unreachable = "the engine is down"
    await served.run("data", "delete", "--call", posts[1])
    shown = (await served.run("jobs", "show", held)).out
    assert "deletion:   on hold: exempt from every deletion (case 7)\n" in shown
    waiting = (await served.run("jobs", "show", doomed)).out
    asked = output.moment(epoch_ms(running.clock.utc_now()))
    told = f"to be deleted as soon as what it left can be reached; asked for {asked}\n"
    assert f"deletion:   {told}" in waiting
    assert "last log lines" not in waiting
    listed = (await served.run("jobs", "list")).out
    ends = {line.split()[0]: line.rsplit("  ", 1)[1] for line in listed.splitlines()[1:]}
    assert ends == {held: "on hold", doomed: "to be deleted"}
