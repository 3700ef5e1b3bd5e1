"""`offloader data`."""

from __future__ import annotations

from typing import Any

import pytest

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
