from __future__ import annotations

import asyncio
from typing import Any

from offloader.backends.stub import StubBackend


async def test_an_idle_service_is_safe_to_restart(served: Any) -> None:
    result = await served.run("status", "--safe")
    assert result.code == 0
    lines = dict(line.split(":", 1) for line in result.out.splitlines())
    assert lines["calls in progress"].strip() == "0 of 2"
    assert lines["unpublished results"].strip() == "0 waiting"
    assert lines["takes new jobs"].strip() == "yes"
    assert lines["safe to restart"].strip() == "yes"


async def test_a_running_call_makes_a_restart_unsafe_and_tells_until_when(served: Any) -> None:
    job_id = await served.running.create_job(max_duration_sec=3600)
    await served.running.check()
    result = await served.run("status", "--safe")
    assert result.code == 1
    assert "1 of 2" in result.out
    assert job_id in result.out
    assert "no: 1 job is running, at the latest until" in result.out
    assert result.err.startswith("offloader: not safe to restart: 1 job is running")
    assert (await served.run("status")).code == 0


async def test_jobs_that_outlive_the_service_do_not_forbid_a_restart(serve: Any) -> None:
    served = await serve(backend=StubBackend(ends_with_service=False))
    await served.running.create_job()
    document = (await served.run("status", "--safe", "--json")).json
    assert document["safe_to_restart"] is True
    assert document["calls_in_progress"] == 1


async def test_unpublished_results_are_counted_with_their_age(served: Any) -> None:
    job_id = await served.running.create_job()
    served.running.backend.exit(job_id, 1, unpublished=True)
    await served.running.check()
    served.running.clock.advance(seconds=3 * 3600)
    result = await served.run("status")
    assert "1 waiting, the oldest for 3 h 0 min" in result.out


async def test_a_drained_service_refuses_jobs_until_it_is_undrained(served: Any) -> None:
    drained = await served.run("drain")
    assert drained.out.startswith("drained: new jobs are refused and none is running")
    refused = await served.running.post_job()
    assert refused.status_code == 500
    assert "the service is being drained and takes no new jobs" in refused.json()["error"]
    assert (await served.running.http.get("/readyz")).status_code == 503
    assert "it is draining" in (await served.run("status")).out
    assert (await served.run("undrain")).out == "new jobs are taken again\n"
    assert (await served.running.post_job()).status_code == 200


async def test_drain_waits_for_the_jobs(served: Any) -> None:
    job_id = await served.running.create_job()
    await served.running.check()
    waiting = asyncio.create_task(served.run("drain", "--wait"))
    async with asyncio.timeout(25):
        while not served.running.offloader.entrance.closed:
            await asyncio.sleep(0.01)
    assert not waiting.done()
    served.running.backend.exit(job_id, 0)
    await served.running.check()
    result = await waiting
    assert result.code == 0
    assert "drained" in result.out.splitlines()[-1]


async def test_a_drain_that_takes_too_long_is_an_error_and_goes_on(served: Any) -> None:
    await served.running.create_job()
    result = await served.run("drain", "--wait", "--timeout", "1")
    assert result.code == 1
    assert "still 1 jobs after 1 s" in result.err
    assert served.running.offloader.entrance.closed


async def test_a_service_that_ends_cannot_be_undrained(served: Any) -> None:
    served.running.offloader.entrance.close(for_good=True)
    result = await served.run("undrain")
    assert result.code == 1
    assert "the service is ending" in result.err
