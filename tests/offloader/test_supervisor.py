from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
import structlog

from offloader.backends.base import Observation, Phase, Workload
from offloader.backends.stub import StubBackend
from offloader.errors import BackendError
from offloader.models import Job, JobSpec, JobState, JobType, StopReason


async def stored(running, job_id: str) -> Job:
    job = await running.offloader.service._store.get(job_id)
    assert job is not None
    return job


async def test_a_job_passes_its_states_as_the_backend_sees_them(running) -> None:
    job_id = await running.create_job()
    states = [(await stored(running, job_id)).state]
    for observation in (
        Observation(Phase.STARTING),
        Observation(Phase.RUNNING),
        Observation(Phase.EXITED, exit_code=0),
    ):
        running.backend.observations[job_id] = observation
        await running.check()
        states.append((await stored(running, job_id)).state)
    assert states == [JobState.STARTING, JobState.STARTING, JobState.RUNNING, JobState.FINISHED]


async def test_a_job_past_its_limit_is_stopped_once_with_the_grace(running) -> None:
    job_id = await running.create_job(max_duration_sec=60)
    running.clock.advance(seconds=59.9)
    await running.check()
    assert running.backend.stopped == []
    running.clock.advance(seconds=0.2)
    await running.check()
    await running.check()
    assert running.backend.stopped == [(job_id, 300.0)]
    assert (await stored(running, job_id)).state is JobState.STOPPING
    running.backend.exit(job_id, 0)
    await running.check()
    assert (await stored(running, job_id)).stop_reason is StopReason.MAX_DURATION


async def test_the_deadline_holds_over_a_restart(start) -> None:
    first = await start()
    job_id = await first.create_job(max_duration_sec=60)
    first.clock.advance(seconds=50)
    second = await start(backend=first.backend, clock=first.clock)
    await second.check()
    assert second.backend.stopped == []
    second.clock.advance(seconds=11)
    await second.check()
    assert [job for job, _ in second.backend.stopped] == [job_id]


@pytest.mark.parametrize("jump", [timedelta(days=-2), timedelta(days=2)])
async def test_a_wall_clock_that_jumps_moves_no_deadline(running, jump: timedelta) -> None:
    job_id = await running.create_job(max_duration_sec=60)
    await running.check()
    running.clock._utc += jump
    running.clock.advance(seconds=30)
    await running.check()
    assert running.backend.stopped == []
    running.clock.advance(seconds=31)
    await running.check()
    assert [job for job, _ in running.backend.stopped] == [job_id]


async def test_a_wish_to_stop_that_was_stored_but_not_sent_is_sent_after_a_restart(start) -> None:
    class Mute(StubBackend):
        async def stop(self, workload, *, grace_s):
            raise asyncio.CancelledError

    first = await start(backend=Mute())
    job_id = await first.create_job(max_duration_sec=60)
    first.clock.advance(seconds=61)
    await first.check()
    backend = StubBackend(launched=first.backend.launched, observations=first.backend.observations)
    second = await start(backend=backend, clock=first.clock)
    await second.check()
    assert [job for job, _ in backend.stopped] == [job_id]
    assert (await stored(second, job_id)).stop_reason is StopReason.MAX_DURATION


async def test_running_jobs_are_adopted_and_finish_after_a_restart(start) -> None:
    first = await start()
    job_id = await first.create_job()
    second = await start(backend=first.backend, clock=first.clock)
    second.backend.exit(job_id, 0)
    await second.check()
    assert (await second.get_job(job_id))["stop_at"]


async def reserve_only(running, job_id: str) -> None:
    """What a service leaves that is killed between admission and the stored launch."""
    spec = JobSpec(JobType.RECORDING, "runner", 60, {})
    job = Job(job_id, "plugin", spec, running.clock.utc_now())
    await running.offloader.service._store.reserve(job, admits=lambda *_: True)


async def test_a_launch_that_was_not_stored_is_found_on_the_backend(start) -> None:
    first = await start()
    await reserve_only(first, "aaaaaaaaaaaa")
    backend = StubBackend(strangers=("aaaaaaaaaaaa", "ffffffffffff"))
    backend.observations["aaaaaaaaaaaa"] = Observation(Phase.RUNNING)
    second = await start(backend=backend, clock=first.clock)
    await second.check()
    job = await stored(second, "aaaaaaaaaaaa")
    assert job.state is JobState.RUNNING
    assert job.workload is not None
    assert backend.removed == []  # what belongs to no job is left alone


@pytest.mark.documents("the-service-ended-before-a-launch")
async def test_a_job_that_was_never_launched_frees_its_place_at_the_next_start(
    start, documented
) -> None:
    first = await start()
    await reserve_only(first, "aaaaaaaaaaaa")
    second = await start(clock=first.clock)
    job = await stored(second, "aaaaaaaaaaaa")
    assert (job.state, job.stop_reason) == (JobState.FINISHED, StopReason.START_FAILED)
    documented("the-service-ended-before-a-launch", job.detail)
    assert await second.offloader.service._store.live() == []


async def test_a_vanished_job_becomes_lost(running) -> None:
    job_id = await running.create_job()
    running.backend.observations[job_id] = Observation(Phase.LOST, detail="gone")
    await running.check()
    job = await stored(running, job_id)
    assert (job.stop_reason, job.detail) == (StopReason.LOST, "gone")


async def test_a_lost_job_is_known_as_such_though_its_log_is_out_of_reach(start) -> None:
    class Gone(StubBackend):
        async def logs(self, workload, *, tail_bytes=None):
            raise BackendError("its host does not answer")
            yield b""

    running = await start(backend=Gone())
    job_id = await running.create_job()
    running.backend.observations[job_id] = Observation(Phase.LOST, detail="gone")
    await running.check()
    assert (await stored(running, job_id)).stop_reason is StopReason.LOST


async def test_one_job_that_cannot_be_polled_does_not_hide_the_others(running) -> None:
    await running.create_job(call="one")
    second = await running.create_job(call="two")
    poll = running.backend.poll

    async def picky(workload):
        if workload.reference["id"] != second:
            raise BackendError("no answer")
        return await poll(workload)

    running.backend.poll = picky
    running.backend.exit(second, 0)
    await running.check()
    assert (await stored(running, second)).state is JobState.FINISHED


async def test_an_engine_that_is_down_is_told_of_once_a_minute(running) -> None:
    await running.create_job()

    async def down(workload):
        raise BackendError("no answer")

    running.backend.poll = down
    with structlog.testing.capture_logs() as lines:
        for _ in range(120):
            running.clock.advance(seconds=1)
            await running.check()
    complaints = [line for line in lines if line["event"] == "job.check_failed"]
    assert len(complaints) == 2


async def test_an_engine_that_is_down_again_is_told_of_at_once(running) -> None:
    await running.create_job()
    poll = running.backend.poll

    async def down(workload):
        raise BackendError("no answer")

    with structlog.testing.capture_logs() as lines:
        for running.backend.poll in (down, down, poll, down):
            running.clock.advance(seconds=1)
            await running.check()
    complaints = [line for line in lines if line["event"] == "job.check_failed"]
    assert len(complaints) == 2


@pytest.mark.parametrize(
    ("exit_code", "setting", "value", "kept_s"),
    [
        (1, "JOBS_FAILEDJOBSRETENTIONTIME", "2h", 7200),
        (None, "JOBS_FAILEDJOBSRETENTIONTIME", "2h", 7200),
        (0, "JOBS_COMPLETEDJOBSRETENTIONTIME", "5m", 300),
    ],
)
async def test_an_ended_job_is_kept_as_long_as_its_retention_says(
    start, exit_code: int | None, setting: str, value: str, kept_s: int
) -> None:
    running = await start(**{setting: value})
    job_id = await running.create_job()
    running.backend.exit(job_id, exit_code)
    await running.check()
    running.clock.advance(seconds=kept_s - 1)
    await running.check()
    assert running.backend.removed == []
    running.clock.advance(seconds=62)
    await running.check()
    assert running.backend.removed == [job_id]
    assert await running.offloader.service._store.get(job_id) is None


async def test_retention_zero_keeps_for_ever(start) -> None:
    running = await start(JOBS_FAILEDJOBSRETENTIONTIME="0d", JOBS_COMPLETEDJOBSRETENTIONTIME="0d")
    job_id = await running.create_job()
    running.backend.exit(job_id, 1)
    await running.check()
    running.clock.advance(seconds=10 * 365 * 86400)
    await running.check()
    assert running.backend.removed == []


async def test_the_last_figures_of_a_job_are_kept_with_it(running) -> None:
    job_id = await running.create_job()
    running.backend.log = b'{"event":"metrics","cpu_s":1}\n'
    await running.check()
    assert running.offloader.supervisor.logs.figures[job_id] == {"cpu_s": 1.0}
    running.backend.log += b'{"event":"metrics","cpu_s":9,"final":true}\n'
    running.backend.exit(job_id, 0, usage={"max_rss_bytes": 5.0})
    await running.check()
    assert (await stored(running, job_id)).figures == {"cpu_s": 9.0, "max_rss_bytes": 5.0}
    assert running.offloader.supervisor.logs.figures == {}


async def test_drain_stops_every_job_and_waits_for_its_end(running) -> None:
    jobs = [await running.create_job(call=call) for call in ("one", "two")]
    draining = asyncio.create_task(running.offloader.drain(hurry=asyncio.Event()))
    while len(running.backend.stopped) < 2:
        await asyncio.sleep(0.001)
    assert not draining.done()
    for job_id in jobs:
        running.backend.exit(job_id, 0)
    await running.check()
    assert await draining
    reasons = {(await stored(running, job_id)).stop_reason for job_id in jobs}
    assert reasons == {StopReason.REQUESTED}


async def test_a_job_that_has_just_ended_by_itself_was_not_requested_to(running) -> None:
    job_id = await running.create_job()
    running.backend.exit(job_id, 0)
    assert await running.offloader.drain(hurry=asyncio.Event())
    assert (await stored(running, job_id)).stop_reason is StopReason.COMPLETED
    assert running.backend.stopped == []


class AsksTwice(StubBackend):
    """Two questions about an ended job are answered together."""

    def __init__(self) -> None:
        super().__init__()
        self.both_asked = asyncio.Event()
        self._asked = 0

    async def poll(self, workload: Workload) -> Observation:
        observation = await super().poll(workload)
        if observation.phase is Phase.EXITED:
            self._asked += 1
            if self._asked == 2:
                self.both_asked.set()
            await self.both_asked.wait()
        return observation


async def test_an_end_that_a_round_and_a_drain_see_is_told_once(start) -> None:
    running = await start(backend=AsksTwice())
    job_id = await running.create_job()
    running.backend.exit(job_id, 0)
    supervisor = running.offloader.supervisor
    with structlog.testing.capture_logs() as events:
        await asyncio.gather(running.check(), supervisor.drain(hurry=asyncio.Event()))
    assert running.backend.both_asked.is_set()
    assert [event["job_id"] for event in events if event["event"] == "job.finished"] == [job_id]


async def test_a_second_signal_shortens_the_grace(running) -> None:
    job_id = await running.create_job()
    hurry = asyncio.Event()
    draining = asyncio.create_task(running.offloader.drain(hurry=hurry))
    while not running.backend.stopped:
        await asyncio.sleep(0.001)
    hurry.set()
    while len(running.backend.stopped) < 2:
        await asyncio.sleep(0.001)
    assert running.backend.stopped == [(job_id, 300.0), (job_id, 10.0)]
    running.backend.exit(job_id, 137)
    await running.check()
    assert await draining


async def test_jobs_that_outlive_the_service_are_left_alone_by_a_drain(start) -> None:
    running = await start(backend=StubBackend(ends_with_service=False))
    await running.create_job()
    assert await running.offloader.drain(hurry=asyncio.Event())
    assert running.backend.stopped == []
    assert running.offloader.entrance.closed


async def test_what_is_unpublished_is_never_removed_before_it_is_given_up(start) -> None:
    running = await start(JOBS_FAILEDJOBSRETENTIONTIME="1d", JOBS_OUTBOXMAXAGE="3d")
    job_id = await running.create_job(input_data={"call_id": "c", "post_id": "p"})
    running.backend.exit(job_id, 0, unpublished=True)
    await running.check()
    for _ in range(2):
        running.clock.advance(seconds=86400)
        await running.check()
        assert running.backend.removed == []
    running.clock.advance(seconds=2 * 86400)
    await running.check()  # one last attempt fails: nobody has sent a token
    running.clock.advance(seconds=61)
    await running.check()
    assert running.backend.removed == [job_id]


async def test_a_job_that_has_left_its_call_gives_up_its_place_and_yields(start) -> None:
    running = await start(JOBS_MAXCONCURRENTJOBS="1", JOBS_POSTCALLSLOTS="1")
    job_id = await running.create_job(call="1")
    assert (await running.post_job(call="2")).status_code == 500
    running.backend.log = b'{"event":"progress","stage":"upload","done":0,"total":9}\n'
    running.clock.advance(seconds=5)
    await running.check()
    assert running.backend.lowered == [job_id]
    assert (await running.get_job(job_id))["id"] == job_id
    await running.create_job(call="2")
    running.clock.advance(seconds=5)
    await running.check()
    assert (await running.post_job(call="3")).status_code == 500, "only one at a time"


async def test_whoever_waits_for_a_place_gets_the_one_that_becomes_free(start) -> None:
    running = await start(JOBS_MAXCONCURRENTJOBS="1", JOBS_ADMISSIONWAITS="20")
    first = await running.create_job(call="1")
    waiting = asyncio.create_task(running.post_job(call="2"))
    await asyncio.sleep(0)
    running.backend.exit(first)
    await running.check()
    async with asyncio.timeout(25):
        assert (await waiting).status_code == 200


async def test_a_job_whose_host_does_not_answer_keeps_no_other_waiting(
    start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offloader.supervisor._ROUND_WAITS_S", 0.05)

    class Hangs(StubBackend):
        hanging = ""
        looks = 0

        async def poll(self, workload):
            if workload.reference["id"] == self.hanging:
                self.looks += 1
                await asyncio.Event().wait()
            return await super().poll(workload)

    running = await start(backend=Hangs())
    backend = running.backend
    backend.hanging = await running.create_job(call="1")
    other = await running.create_job(call="2")
    await running.check()
    backend.exit(other)
    await running.check()
    assert (await stored(running, other)).stop_reason is StopReason.COMPLETED
    assert (await stored(running, backend.hanging)).live
    assert backend.looks == 1, "one look at a time"


async def test_publishing_that_hangs_keeps_no_job_waiting(
    running, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    async def hang(*_: object) -> None:
        begun.append(None)
        await asyncio.Event().wait()

    supervisor = running.offloader.supervisor
    monkeypatch.setattr(supervisor._keeping, "_wait_s", 0.05)
    monkeypatch.setattr(supervisor._upkeep._outbox, "check", hang)
    job_id = await running.create_job()
    await running.check()
    running.backend.exit(job_id)
    await running.check()
    assert (await stored(running, job_id)).stop_reason is StopReason.COMPLETED
    assert len(begun) == 1, "never two of them at once"


async def test_a_host_that_only_repeats_itself_is_asked_for_no_log(start) -> None:
    class Silent(StubBackend):
        read = 0

        async def logs(self, workload, *, tail_bytes=None):
            self.read += 1
            yield b""

    running = await start(backend=Silent())
    job_id = await running.create_job()
    running.backend.observations[job_id] = Observation(Phase.RUNNING, stale=True)
    await running.check()
    assert running.backend.read == 0
    running.backend.observations[job_id] = Observation(Phase.RUNNING)
    running.clock.advance(seconds=5)
    await running.check()
    assert running.backend.read == 1


class RefusesToLower(StubBackend):
    refusing = True

    async def lower(self, workload):
        if self.refusing:
            raise BackendError("not now")
        await super().lower(workload)


async def test_a_place_is_given_up_again_and_again_until_the_host_has_heard_of_it(start) -> None:
    running = await start(backend=RefusesToLower(), JOBS_MAXCONCURRENTJOBS="1")
    backend = running.backend
    job_id = await running.create_job()
    backend.log = b'{"event":"progress","stage":"upload","done":0,"total":9}\n'
    await running.check()
    assert not (await stored(running, job_id)).post_call
    backend.refusing = False
    running.clock.advance(seconds=5)
    await running.check()
    assert backend.lowered == [job_id]
    assert (await stored(running, job_id)).post_call


async def test_a_job_ends_though_its_place_could_not_be_given_up_before(start) -> None:
    running = await start(backend=RefusesToLower())
    job_id = await running.create_job()
    running.backend.log = b'{"event":"progress","stage":"upload","done":0,"total":9}\n'
    running.backend.exit(job_id)
    await running.check()
    assert (await stored(running, job_id)).stop_reason is StopReason.COMPLETED


async def test_a_backend_that_is_away_at_the_start_harms_no_launch_that_was_not_stored(
    start,
) -> None:
    class Away(StubBackend):
        away = True

        async def adopt(self):
            if self.away:
                raise BackendError("a worker did not answer")
            return await super().adopt()

    first = await start()
    await reserve_only(first, "aaaaaaaaaaaa")
    backend = Away(ends_with_service=False, strangers=("aaaaaaaaaaaa",))
    second = await start(backend=backend, clock=first.clock)
    await second.check()
    assert (await stored(second, "aaaaaaaaaaaa")).state is JobState.PENDING
    backend.away = False
    await second.check()  # finds what was launched
    await second.check()  # looks at it
    assert (await stored(second, "aaaaaaaaaaaa")).state is JobState.RUNNING
