"""`offloader data`."""

from __future__ import annotations

from typing import Any

import pytest

from offloader.cli.main import main

CALL = "p" * 26


@pytest.mark.documents("data-that-was-left-as-it-is")
async def test_what_is_kept_of_a_call_is_found_held_and_deleted(
    serve: Any, documented: Any
) -> None:
    served = await serve(JOBS_KEEPPUBLISHED="1d")
    assert (await served.run("data", "find", "--call", CALL)).out == "nothing is kept of it\n"
    job_id = await served.running.create_job(post=CALL)
    running = await served.run("data", "delete", "--call", CALL)
    assert running.code == 1
    documented("data-that-was-left-as-it-is", running.err.removeprefix("offloader: ").strip())
    served.running.backend.exit(job_id, 0)
    await served.running.check()
    held = await served.run("data", "hold", "--call", CALL, "--reason", "case 7")
    assert held.code == 0
    assert f"{job_id}" in held.out
    assert "case 7" in (await served.run("data", "find", "--call", CALL)).out
    assert (await served.run("data", "delete", "--call", CALL)).code == 1
    released = await served.run("data", "hold", "--call", CALL, "--release", "--json")
    assert [job["outcome"] for job in released.json["jobs"]] == ["released"]
    assert "deleted" in (await served.run("data", "delete", "--call", CALL)).out
    assert served.running.backend.removed == [job_id]


async def test_a_person_is_looked_for_in_files_and_it_is_said_where_that_was_not_possible(
    serve: Any,
) -> None:
    served = await serve(JOBS_KEEPPUBLISHED="1d")
    served.running.backend.files = {"r/part.mp4": b"video"}
    job_id = await served.running.create_job()
    found = await served.run("data", "find", "--user", "a" * 26)
    assert "nothing is kept of it" in found.out
    assert f"not looked into: {job_id}: its files do not say who took part" in found.out


@pytest.mark.documents("data-that-was-left-as-it-is/2")
async def test_what_is_being_deleted_cannot_be_held(serve: Any, documented: Any) -> None:
    served = await serve()
    job_id = await served.running.create_job(post=CALL)
    served.running.backend.exit(job_id, 0)
    await served.running.check()
    served.running.backend.unreachable = "the engine is down"
    assert "waiting" in (await served.run("data", "delete", "--call", CALL)).out
    late = await served.run("data", "hold", "--call", CALL)
    assert late.code == 1
    documented("data-that-was-left-as-it-is/2", late.err.removeprefix("offloader: ").strip())


async def test_the_field_that_matched_and_what_is_not_in_the_list_are_told(serve: Any) -> None:
    served = await serve(JOBS_KEEPPUBLISHED="1d")
    one = {"call_id": "c" * 26, "post_id": CALL, "auth_token": "hidden-token"}
    first = await served.running.create_job(input_data=one | {"recording_id": "r" * 26})
    second = await served.running.create_job(
        job_type="transcribing", input_data=one | {"transcription_id": "t" * 26}
    )
    found = await served.run("data", "find", "--call", "r" * 26)
    head, row, *notes = found.out.splitlines()
    place = head.index("MATCHED")
    assert row.split()[0] == first
    assert row.split()[2] == "plugin"
    assert row[place:].startswith("recording_id ")
    assert notes == [
        f"note: 1 job not in this list: of the same call, which --call {CALL} finds whole"
    ]
    whole = await served.run("data", "find", "--call", CALL)
    assert {line.split()[0] for line in whole.out.splitlines()[1:]} == {first, second}
    assert whole.out.count("post_id") == 2
    wrong = await served.run("data", "delete", "--call", "c" * 26)
    assert wrong.out.splitlines() == [
        "nothing is kept of it",
        "note: 2 jobs not in this list: there it is the channel's ID (call_id): --channel finds it",
    ]


@pytest.mark.documents("an-option-about-data-that-cannot-be")
@pytest.mark.parametrize("action", ["find", "delete", "hold"])
@pytest.mark.parametrize("option", ["--call", "--channel", "--user"])
@pytest.mark.parametrize("value", ["", CALL[1:], f"{CALL}p", CALL.upper(), "../" + CALL[3:]])
def test_an_id_that_is_none_is_refused_with_option_value_and_wanted_form(
    capsys: pytest.CaptureFixture[str], documented: Any, action: str, option: str, value: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["data", action, option, value])
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert f"argument {option}: {value!r}: should be an ID of 26 characters a-z and 0-9" in told
    documented.marked(told.splitlines()[-1])


@pytest.mark.documents("an-option-about-data-that-cannot-be/2")
@pytest.mark.parametrize("reason", ["", " ", "a\nb", "x" * 121])
def test_a_reason_that_the_service_would_not_take_is_refused_with_its_option(
    capsys: pytest.CaptureFixture[str], documented: Any, reason: str
) -> None:
    with pytest.raises(SystemExit):
        main(["data", "hold", "--call", CALL, "--reason", reason])
    told = capsys.readouterr().err
    documented.marked(told.splitlines()[-1])


@pytest.mark.documents("an-option-about-data-that-cannot-be/3")
async def test_a_reason_to_hold_no_longer_is_bad_usage(serve: Any, documented: Any) -> None:
    served = await serve()
    both = await served.run("data", "hold", "--call", CALL, "--release", "--reason", "case 7")
    assert (both.code, both.out) == (2, "")
    documented.marked(both.err.removeprefix("offloader: ").strip())


async def test_a_deletion_that_waits_is_told_in_the_table(serve: Any) -> None:
    served = await serve()
    job_id = await served.running.create_job(post=CALL)
    served.running.backend.exit(job_id, 0)
    await served.running.check()
    served.running.backend.unreachable = "the engine is down"
    await served.run("data", "delete", "--call", CALL)
    assert "to be deleted" in (await served.run("data", "find", "--call", CALL)).out
