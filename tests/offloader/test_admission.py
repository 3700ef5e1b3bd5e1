from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from offloader.admission import AdmissionPolicy, calls_in_progress
from offloader.errors import DiskTooFull
from offloader.models import Job, JobSpec, JobState, JobType
from offloader.occupancy import Occupancy

_ids = count()


def job(short: str, client: str = "client") -> Job:
    """`r1` is a recording of call 1, `t2` a transcription of call 2."""
    job_type = JobType.RECORDING if short[0] == "r" else JobType.TRANSCRIBING
    spec = JobSpec(job_type, "runner", 60, {"call_id": short[1:], "post_id": "p"})
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return Job(f"{next(_ids):012x}", client, spec, moment, state=JobState.RUNNING)


@pytest.mark.parametrize(
    ("live", "calls"),
    [
        ("", 0),
        ("r1", 1),
        ("r1 t1", 1),
        ("t1", 1),
        ("r1 t1 r2", 2),
        ("r1 r1 t1", 2),
        ("r1 r1 t1 t1", 2),
        ("r1 t2", 2),
    ],
)
def test_a_recording_and_its_transcription_are_one_call(live: str, calls: int) -> None:
    assert calls_in_progress(job(short) for short in live.split()) == calls


@pytest.mark.parametrize(
    ("live", "candidate", "limit", "fits"),
    [
        ("", "r1", 1, True),
        ("r1", "r2", 1, False),
        ("r1", "r2", 2, True),
        ("r1", "t1", 1, True),
        ("r1 r2", "t2", 1, True),  # the limit was lowered meanwhile: the sibling is still admitted
        ("r1", "r1", 1, False),
        ("r1 t1", "t1", 1, False),
        ("t1", "r1", 1, True),
    ],
)
def test_the_sibling_of_an_admitted_job_is_never_refused(
    live: str, candidate: str, limit: int, fits: bool
) -> None:
    assert (
        Occupancy().admits(
            [job(short) for short in live.split()],
            job(candidate),
            policy=AdmissionPolicy(max_calls=limit),
        )
        is fits
    )


def test_another_clients_job_for_the_same_ids_is_no_sibling() -> None:
    assert not Occupancy().admits(
        [job("r1")], job("t1", client="other"), policy=AdmissionPolicy(max_calls=1)
    )


@pytest.mark.parametrize(
    ("over", "slots", "places"),
    [(0, 1, 3), (1, 1, 2), (2, 1, 2), (2, 2, 1), (3, 5, 0), (3, 0, 3)],
)
def test_work_after_the_call_gives_up_its_place_but_only_so_much_of_it(
    over: int, slots: int, places: int
) -> None:
    live = [replace(job(f"r{number}"), post_call=number < over) for number in range(3)]
    assert calls_in_progress(live, post_call_slots=slots) == places


def test_a_call_that_is_recorded_again_while_its_first_recording_uploads_fits() -> None:
    uploading = replace(job("r1"), post_call=True)
    assert Occupancy().admits([uploading], job("r1"), policy=AdmissionPolicy(1, post_call_slots=1))


NOW = datetime(2026, 1, 1, tzinfo=UTC)
GIB = 2**30


def hour_of_recording(**input_data: object) -> Job:
    plain = job("r1")
    data = {**plain.spec.input_data, **input_data}
    return replace(plain, spec=replace(plain.spec, max_duration_s=3600, input_data=data))


@pytest.mark.parametrize(
    ("rates", "bytes_per_s"),
    [
        ({"video_rate": 1500, "audio_rate": 64}, 2 * 1564 * 125),
        ({"video_rate": "1000", "audio_rate": "64"}, 2 * 1064 * 125),
        ({}, 2 * 1564 * 125),
        ({"video_rate": "many"}, 2 * 1564 * 125),
    ],
)
def test_a_recording_reserves_its_rate_for_its_remaining_time(
    rates: dict[str, object], bytes_per_s: int
) -> None:
    recording, over = hour_of_recording(**rates), replace(job("t1"), post_call=True)
    policy = AdmissionPolicy(9, min_free_disk_bytes=0)

    def fits(live: Job, free_bytes: int, now: datetime = NOW) -> bool:
        kwargs = {"policy": policy, "free_bytes": free_bytes, "now": now}
        try:
            Occupancy().check_disk([live], over, **kwargs)
        except DiskTooFull:
            return False
        return True

    hour_bytes = 3600 * bytes_per_s
    assert (fits(recording, hour_bytes), fits(recording, hour_bytes - 1)) == (True, False)
    later = NOW + timedelta(minutes=50)
    assert fits(recording, 600 * bytes_per_s, later)
    assert not fits(recording, 600 * bytes_per_s - 1, later)
    assert fits(recording, 0, NOW + timedelta(hours=2))
    assert fits(replace(recording, post_call=True), 0)


def test_disk_is_admitted_like_cores_and_refused_with_the_numbers() -> None:
    policy = AdmissionPolicy(9, min_free_disk_bytes=2 * GIB)
    one = hour_of_recording()
    each = 3600 * 2 * 1564 * 125
    enough = 2 * GIB + 2 * each
    Occupancy().check_disk([one], one, policy=policy, free_bytes=enough, now=NOW)
    with pytest.raises(DiskTooFull) as refused:
        Occupancy().check_disk([one], one, policy=policy, free_bytes=enough - 1, now=NOW)
    assert str(refused.value) == (
        "not enough disk: 4.6 GiB are free, running jobs may still write 1.3 GiB, this one 1.3 GiB, "
        "and 2.0 GiB have to stay free (jobs.min_free_disk)"
    )


@pytest.mark.parametrize(("limit", "free"), [(None, 0), (2 * GIB, None)])
def test_without_a_limit_or_a_figure_disk_is_not_looked_at(
    limit: int | None, free: int | None
) -> None:
    policy = AdmissionPolicy(9, min_free_disk_bytes=limit)
    Occupancy().check_disk([], hour_of_recording(), policy=policy, free_bytes=free, now=NOW)
