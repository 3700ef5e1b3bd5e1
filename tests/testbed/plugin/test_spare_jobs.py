"""Several jobs in one call, each told only what concerns it."""

from __future__ import annotations


async def _spare(standin, type_: str = "recording") -> str:
    response = await standin.request("POST", "/testbed/spare_jobs", who=None, json={"type": type_})
    return str(response.json()["job_id"])


async def test_each_hears_of_its_own_start_alone(standin) -> None:
    await standin.joined("alice")
    jobs = [await _spare(standin), await _spare(standin)]
    clients = [await standin.joined("calls", job) for job in jobs]
    await standin.report(jobs[0], JobType="recording", Status="started")
    assert [len((await client.heard()).job_states) for client in clients] == [1, 0]
    await standin.request("POST", f"/testbed/spare_jobs/{jobs[1]}/stop", who=None)
    assert (await clients[1].heard()).stopped == [jobs[1]]


async def test_a_transcriber_learns_that_its_recording_has_begun(standin) -> None:
    await standin.joined("alice")
    client = await standin.connect("calls")
    events = await client.join(await _spare(standin, "transcribing"))
    (state,) = events.job_states
    assert state["type"] == "recording"
    assert state["start_at"] > 0


async def test_one_that_has_started_cannot_join_again(standin) -> None:
    await standin.joined("alice")
    job = await _spare(standin)
    await standin.joined("calls", job)
    await standin.report(job, JobType="recording", Status="started")
    events = await (await standin.connect("calls")).join(job)
    assert "error" in events.names


async def test_without_a_call_there_is_none(standin) -> None:
    response = await standin.request(
        "POST", "/testbed/spare_jobs", who=None, json={"type": "recording"}
    )
    assert response.status_code == 400
