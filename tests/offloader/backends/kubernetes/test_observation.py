"""What a Job and its pod say, as phases, exit codes and sentences with a next step."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from offloader.backends.base import Observation, Phase
from offloader.backends.kubernetes.observation import Look, end_note, noted, observe

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
MADE = "2026-11-21T11:59:00Z"
ENDED = "2026-11-21T11:59:30Z"


def job(*, annotations=None, conditions=(), suspend=False, made=MADE):
    return {
        "metadata": {"name": "j", "creationTimestamp": made, "annotations": annotations or {}},
        "spec": {"suspend": suspend},
        "status": {"conditions": list(conditions)},
    }


def pod(state=None, *, status=None, deleted="", memory=""):
    limits = {"memory": memory} if memory else {}
    containers = [{"name": "job", "state": state}] if state is not None else []
    return {
        "metadata": {"name": "p", **({"deletionTimestamp": deleted} if deleted else {})},
        "spec": {"containers": [{"name": "job", "resources": {"limits": limits}}]},
        "status": {"containerStatuses": containers, **(status or {})},
    }


def ended(code, reason="Error", message=""):
    return {
        "terminated": {
            "exitCode": code,
            "reason": reason,
            "finishedAt": ENDED,
            "message": message,
        }
    }


def see(the_job, the_pod=None, **more):
    return observe(Look(the_job, the_pod, **more), now=NOW, start_timeout_s=180)


@pytest.mark.parametrize(
    ("state", "options", "code", "words"),
    [
        (ended(0, "Completed"), {}, 0, ()),
        (ended(7), {}, 7, ()),
        (ended(143), {}, 143, ("signal 15",)),
        (ended(142), {}, 142, ("own timer",)),
        (ended(7), {"deleted": ENDED}, 7, ()),
        (ended(137), {"deleted": ENDED}, 137, ("grace", "jobs.stop_grace_s")),
        (ended(137), {}, 137, ("signal 9",)),
        pytest.param(
            ended(137, "OOMKilled"),
            {"memory": "4Gi"},
            137,
            ("OOMKilled", "limit of 4Gi", "jobs_resource_requirements"),
            marks=pytest.mark.documents("oomkilled"),
        ),
        (ended(137, "OOMKilled"), {}, 137, ("its node lacks",)),
        pytest.param(
            ended(137),
            {"status": {"reason": "Evicted", "message": "low on ephemeral-storage"}},
            137,
            ("evicted", "low on ephemeral-storage", "requests.ephemeral-storage"),
            marks=pytest.mark.documents("evicted-by-its-node"),
        ),
        pytest.param(
            ended(137),
            {"status": {"reason": "DeadlineExceeded"}},
            137,
            ("DeadlineExceeded",),
            marks=pytest.mark.documents("ended-by-kubernetes"),
        ),
        (ended(137), {"status": {"reason": "Preempting"}}, 137, ("priorityClassName",)),
        pytest.param(
            ended(128, "StartError", 'exec: "/no"'),
            {},
            None,
            ("/no", "check the image"),
            marks=pytest.mark.documents("a-container-that-could-not-be-started"),
        ),
    ],
)
def test_an_end_has_its_code_and_says_what_to_do(state, options, code, words, documented) -> None:
    seen = see(job(), pod(state, **options))
    assert (seen.phase, seen.exit_code) == (Phase.EXITED, code)
    assert seen.stopped_at == datetime(2026, 11, 21, 11, 59, 30, tzinfo=UTC)
    assert all(word in seen.detail for word in words), seen.detail
    assert bool(seen.detail) is bool(words)
    documented.marked(seen.detail)


@pytest.mark.parametrize(
    ("the_pod", "words"),
    [
        pytest.param(
            pod({"waiting": {"reason": "ErrImagePull", "message": "not found"}}),
            ("ErrImagePull", "not found", "jobs.runner_images"),
            marks=pytest.mark.documents("its-image-cannot-be-pulled-by-the-node"),
        ),
        (
            pod({"waiting": {"reason": "CreateContainerConfigError", "message": "no secret"}}),
            ("CreateContainerConfigError", "no secret"),
        ),
        pytest.param(
            pod(
                status={
                    "conditions": [
                        {
                            "type": "PodScheduled",
                            "status": "False",
                            "reason": "Unschedulable",
                            "message": "3 Insufficient cpu",
                        }
                    ]
                }
            ),
            ("Unschedulable", "3 Insufficient cpu", "add nodes"),
            marks=pytest.mark.documents("no-node-takes-it"),
        ),
        (pod({"waiting": {"reason": "ContainerCreating"}}), ()),
    ],
)
def test_what_keeps_a_pod_from_starting_is_told_and_has_its_time(
    the_pod, words, documented
) -> None:
    seen = see(job(), the_pod)
    assert seen.phase is Phase.STARTING
    assert all(word in seen.detail for word in words), seen.detail
    late = see(job(made="2026-11-21T11:56:59Z"), the_pod)
    assert (late.phase, late.exit_code) == (Phase.EXITED, None)
    assert "start_timeout_s" in late.detail
    documented.marked(late.detail)
    assert all(word in late.detail for word in words), late.detail


def test_an_image_that_can_never_be_pulled_is_not_waited_for() -> None:
    seen = see(job(), pod({"waiting": {"reason": "InvalidImageName", "message": "bad"}}))
    assert (seen.phase, seen.exit_code) == (Phase.EXITED, None)


@pytest.mark.documents("a-pod-that-failed-without-a-word")
def test_an_evicted_pod_without_a_container_status_ran_or_never_ran_by_its_start(
    documented,
) -> None:
    evicted = {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}
    assert see(job(), pod(status=evicted)).exit_code is None
    wordless = see(job(), pod(status={"phase": "Failed"}))
    documented("a-pod-that-failed-without-a-word", wordless.detail)
    ran = see(job(), pod(status={**evicted, "startTime": MADE}))
    assert (ran.phase, ran.exit_code) == (Phase.EXITED, 137)


@pytest.mark.documents("its-node-does-not-answer")
def test_a_running_pod_whose_node_does_not_answer_is_lost_in_the_end(documented) -> None:
    running = {"running": {"startedAt": MADE}}
    assert see(job(), pod(running)).phase is Phase.RUNNING
    assert see(job(), pod(running, deleted="2026-11-21T11:59:00Z")).phase is Phase.RUNNING
    silent = see(job(), pod(running, deleted="2026-11-21T11:57:00Z"))
    assert silent.phase is Phase.LOST
    documented("its-node-does-not-answer", silent.detail)


@pytest.mark.documents("a-pod-that-was-removed-by-force", "a-pod-that-was-removed-by-force/2")
def test_a_pod_that_is_gone_tells_by_what_was_seen_of_it_last(documented) -> None:
    assert see(job(), pod(ended(5)), pod_gone=True).exit_code == 5
    running = pod({"running": {}})
    gone = see(job(), running, pod_gone=True)
    assert gone.phase is Phase.RUNNING, "its Job will tell"
    documented("a-pod-that-was-removed-by-force/2", gone.detail)
    for kind, phase in (("Complete", Phase.EXITED), ("Failed", Phase.LOST)):
        over = [{"type": kind, "status": "True", "lastTransitionTime": ENDED}]
        gone = see(job(conditions=over), running, pod_gone=True)
        assert gone.phase is phase
    documented("a-pod-that-was-removed-by-force", gone.detail)


@pytest.mark.documents(
    "no-pod-was-made-for-it", "nobody-saw-how-its-pod-ended", "its-job-never-started"
)
def test_without_a_pod_the_job_itself_tells(documented) -> None:
    complete = {"type": "Complete", "status": "True", "lastTransitionTime": ENDED}
    failed = {**complete, "type": "Failed", "message": "backoff limit"}
    assert see(job()).phase is Phase.STARTING
    assert see(job(conditions=[complete])).exit_code == 0
    lost = see(job(conditions=[failed]))
    assert lost.phase is Phase.LOST
    documented("nobody-saw-how-its-pod-ended", lost.detail)
    old = (NOW - timedelta(seconds=181)).isoformat()
    documented("its-job-never-started", see(job(made=old, suspend=True)).detail)
    documented("no-pod-was-made-for-it", see(job(made=old)).detail)


@pytest.mark.documents("stopped-before-it-had-started")
def test_a_stop_before_the_pod_is_an_end_by_that_signal(documented) -> None:
    told = {"calls-offloader/stopped": NOW.isoformat()}
    seen = see(job(annotations=told, suspend=True))
    assert (seen.phase, seen.exit_code) == (Phase.EXITED, 143)
    documented("stopped-before-it-had-started", seen.detail)


@pytest.mark.parametrize(
    "end",
    [
        Observation(Phase.EXITED, exit_code=7, stopped_at=NOW, detail="because"),
        Observation(Phase.EXITED, stopped_at=NOW, detail="never ran"),
        Observation(Phase.LOST, detail="gone"),
    ],
)
def test_an_end_that_was_written_down_outlives_the_pod(end) -> None:
    kept = job(annotations={"calls-offloader/end": noted(end)})
    assert see(kept) == end
    assert see(kept, pod({"running": {}})) == end


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"exit_code": "x"}', "null"])
def test_an_annotation_of_somebody_else_is_no_end(text) -> None:
    assert end_note(job(annotations={"calls-offloader/end": text})) is None


def test_a_retry_has_a_day_to_begin_and_to_end_and_is_told_so() -> None:
    retry = job(made="2026-11-20T12:00:01Z")
    retry["metadata"]["labels"] = {"calls-offloader.salvage": "1"}
    pending = pod({"waiting": {"reason": "ContainerCreating"}})
    assert see(retry, pending).phase is Phase.STARTING
    late = observe(Look(retry, pending), now=NOW + timedelta(seconds=2), start_timeout_s=180)
    assert (late.phase, "within a day" in late.detail) == (Phase.EXITED, True)
    over = pod(ended(143), status={"reason": "DeadlineExceeded"})
    over["metadata"]["labels"] = retry["metadata"]["labels"]
    assert "within a day" in see(retry, over).detail
    assert "no service stopped it" not in see(retry, over).detail
