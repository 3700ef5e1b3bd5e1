"""The docker backend on a real engine, beyond what every backend promises (tests/contract)."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest
from docker.errors import APIError

from offloader.backends.base import Phase
from offloader.backends.docker.backend import DockerBackend
from offloader.errors import BackendError, LaunchFailed
from offloader.models import JobType

pytestmark = pytest.mark.slow

TOKEN = "t" * 26
RESULT = "r" * 26
WAITS = "echo ready; while [ ! -e /data/go ]; do sleep 0.02; done"
LEAVES_A_RESULT = (
    "mkdir -p /data/r1; echo {} > /data/r1/job.json; printf film > /data/r1/a.mp4; exit 1"
)


async def test_our_jobs_run_without_privileges_on_a_read_only_root(jobs) -> None:
    backend = jobs.backend(
        "id -u; grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; "
        "touch /file 2>&1 || echo read-only; touch /data/file /tmp/file /run/job/file && echo writable"
    )
    workload = await jobs.launch(backend)
    await jobs.ended(backend, workload)
    log = await jobs.log(backend, workload)
    said = dict(line.split(":\t") for line in log.splitlines() if ":\t" in line)
    assert log.startswith("10001\n")
    assert int(said["CapEff"], 16) == int(said["CapBnd"], 16) == 0
    assert (said["NoNewPrivs"], said["Seccomp"]) == ("1", "2")
    assert "read-only" in log
    assert "writable" in log


async def test_the_input_arrives_and_neither_inspection_nor_volume_nor_processes_show_it(
    jobs,
) -> None:
    backend = jobs.backend(f'read -r document; echo "$document" | grep -c "t\\{{26\\}}"; {WAITS}')
    workload = await jobs.launch(backend, transcribe_api_options='{"AZURE_SPEECH_KEY":"hushkey"}')
    assert (await jobs.said(backend, workload, "ready")).startswith("1\n")
    details = json.dumps(jobs.inspect(workload))
    volume = json.dumps(jobs.client.inspect_volume(jobs.container(workload)))
    archive = b"".join(jobs.client.get_archive(jobs.container(workload), "/data")[0])
    processes = json.dumps(jobs.client.top(jobs.container(workload)))
    kept = "".join((details, volume, archive.decode(errors="replace")))
    assert TOKEN not in kept
    assert "hushkey" not in kept
    assert "hushkey" not in processes
    assert '"c1"' not in kept
    assert "JOB_INPUT_FILE=/run/job/input.json" in details


async def test_a_job_that_needs_too_much_memory_is_known_to_have_been_killed_for_it(jobs) -> None:
    backend = jobs.backend("a=x; while true; do a=$a$a; done", JOBS_DOCKER_MEMORY="256MiB")
    seen = await jobs.ended(backend, await jobs.launch(backend))
    assert seen.exit_code == 137
    assert "256 MiB" in seen.detail


async def test_a_kill_after_the_grace_survives_a_restart_of_the_service(jobs) -> None:
    first = jobs.backend("trap '' TERM; echo ready; while true; do sleep 0.02; done")
    workload = await jobs.launch(first)
    await jobs.said(first, workload, "ready")
    asked_s = time.monotonic()
    await first.stop(workload, grace_s=1.5)
    await first.aclose()
    second = jobs.backend()
    assert (await second.poll(workload)).phase is Phase.RUNNING
    seen = await jobs.ended(second, workload)
    assert time.monotonic() - asked_s >= 1.5
    assert "grace" in seen.detail
    assert "grace" in (await jobs.backend().poll(workload)).detail


async def test_a_stop_reaches_the_job_also_when_it_cannot_be_noted_in_its_volume(
    jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise APIError("no space left on device")

    monkeypatch.setattr("offloader.backends.docker.stopping.put_files", full)
    backend = jobs.backend("trap 'echo term' TERM; echo ready; while true; do sleep 0.02; done")
    workload = await jobs.launch(backend)
    await jobs.said(backend, workload, "ready")
    await backend.stop(workload, grace_s=1)
    await jobs.said(backend, workload, "term")
    await backend.stop(workload, grace_s=60)
    assert (await jobs.ended(backend, workload)).exit_code == 137
    assert (await jobs.log(backend, workload)).count("term") == 1


async def test_nothing_is_left_of_a_job_whose_image_declares_volumes(jobs) -> None:
    def volumes() -> set[str]:
        return {volume["Name"] for volume in jobs.client.volumes()["Volumes"] or []}

    image = f"{jobs.instance}/calls-recorder:volumes"
    repository, tag = image.split(":")
    changes = ['ENTRYPOINT ["/bin/true"]', "VOLUME /extra /data"]
    jobs.client.import_image_from_data(
        jobs.images.root, repository=repository, tag=tag, changes=changes
    )
    try:
        backend = jobs.backend(JOBS_RUNNERIMAGES=json.dumps({"*": image}))
        workload = await jobs.launch(backend)
        await jobs.ended(backend, workload)
        own = {mount["Name"] for mount in jobs.inspect(workload)["Mounts"]}
        assert len(own) == 2
        assert own <= volumes()
        await backend.remove(workload)
        assert not own & volumes()
    finally:
        jobs.client.remove_image(image, force=True)


async def test_what_a_removed_container_left_is_found_read_and_salvaged(jobs) -> None:
    script = f'if [ "$0" = salvage ]; then rm -r "$1"; exit 0; fi; {LEAVES_A_RESULT}'
    backend = jobs.backend(script, own=False)
    workload = await jobs.launch(backend)
    await jobs.ended(backend, workload)
    jobs.client.remove_container(jobs.container(workload))
    later = jobs.backend(script, own=False)
    assert workload.reference["job_id"] in await later.adopt()
    seen = await later.poll(workload)
    assert (seen.phase, seen.unpublished) == (Phase.LOST, True)
    assert [a.name for a in await later.artifacts(workload)] == ["r1/a.mp4", "r1/job.json"]
    salvage = await later.salvage(workload, job_type=JobType.RECORDING, variables={})
    assert (await jobs.ended(later, salvage)).exit_code == 0
    assert not (await later.poll(workload)).unpublished
    await later.remove(workload)
    assert jobs.client.volumes(filters={"name": jobs.container(workload)})["Volumes"] == []


async def test_where_the_result_is_known_only_there_is_looked(jobs) -> None:
    backend = jobs.backend(
        f"mkdir -p /data/{RESULT} /data/other; touch /data/other/job.json; [ -e /data/go ] || exit 1"
    )
    workload = await jobs.launch(backend, recording_id=RESULT)
    assert workload.reference["result"] == RESULT
    assert not (await jobs.ended(backend, workload)).unpublished


async def test_the_private_ca_reaches_the_job(jobs, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text("CERTIFICATE\n")
    script = "read -r told; path=${told#*TLS_CA_CERT_FILE*: ?}; cat ${path%%[!a-z./]*}"
    backend = jobs.backend(script, JOBS_CACERTFILE=str(ca))
    workload = await jobs.launch(backend)
    assert (await jobs.ended(backend, workload)).exit_code == 0
    assert await jobs.log(backend, workload) == "CERTIFICATE\n"
    assert list(await backend.artifacts(workload)) == [], "the service's own files are no artifacts"


async def test_a_loopback_site_on_the_default_bridge_starts_nothing(jobs) -> None:
    backend = jobs.backend()
    with pytest.raises(LaunchFailed, match="DOCKER_NETWORK=host"):
        await jobs.launch(backend, site_url="http://localhost:8065")
    assert await backend.adopt() == {}


@pytest.mark.documents("no-such-image-and-no-pulling")
async def test_an_image_that_is_not_there_is_named(jobs, documented) -> None:
    backend = jobs.backend(JOBS_RUNNERIMAGES='{"*": "no-such/calls-recorder:v1"}')
    with pytest.raises(LaunchFailed) as refused:
        await jobs.launch(backend)
    documented("no-such-image-and-no-pulling", str(refused.value))
    with pytest.raises(BackendError, match=r"no-such/calls-recorder:v1 is not on the engine"):
        await backend.prepare(["a/calls-recorder:v1.0.0", "a/calls-transcriber:v1.0.0"])


async def test_two_installations_on_one_engine_do_not_adopt_each_others_jobs(jobs) -> None:
    ours = jobs.backend()
    workload = await jobs.launch(ours)
    await jobs.ended(ours, workload)
    others = jobs.backend(JOBS_DOCKER_INSTANCE=f"{jobs.instance}-other")
    assert await others.adopt() == {}
    assert list(await ours.adopt()) == [workload.reference["job_id"]]


async def test_captions_come_before_recording_and_post_call_work_yields_its_cpu(jobs) -> None:
    backend = jobs.backend(WAITS)
    transcriber = await jobs.launch(backend, JobType.TRANSCRIBING)
    recorder = await jobs.launch(backend)

    def shares() -> tuple[int, int]:
        details = (jobs.inspect(workload)["HostConfig"] for workload in (transcriber, recorder))
        first, second = (int(host["CpuShares"]) for host in details)
        return first, second

    captions, recording = shares()
    assert captions > recording
    await backend.lower(transcriber)
    assert shares()[0] * 5 < recording
    assert shares()[1] == recording, "the recorder still records"
    await backend.lower(recorder)
    assert len(set(shares())) == 1
    assert (await backend.poll(transcriber)).phase is Phase.RUNNING


async def test_the_jobs_lines_are_repeated_in_the_services_log_when_asked(jobs, capsys) -> None:
    backend = jobs.backend("echo one; echo two", JOBS_DOCKER_OUTPUTLOGS="true")
    workload = await jobs.launch(backend)
    await jobs.ended(backend, workload)
    await backend.poll(workload)
    lines = [line for line in capsys.readouterr().out.splitlines() if "job.output" in line]
    assert [line.split("line=")[-1].strip() for line in lines] == ["one", "two"]


@pytest.mark.documents("the-engine-cannot-be-used")
async def test_an_engine_that_does_not_answer_is_told_in_words(
    options, tmp_path: Path, documented
) -> None:
    backend = DockerBackend(options(DOCKER_HOST=f"unix://{tmp_path}/no.sock"), environ={})
    for call in (backend.check_usable(), backend.adopt()):
        with pytest.raises(BackendError) as failed:
            await call
        documented("the-engine-cannot-be-used", str(failed.value))
    assert await backend.free_disk_bytes() is None
    await backend.aclose()
    with pytest.raises(BackendError, match="closed"):
        await backend.adopt()


async def test_room_on_the_engines_disk_is_known_on_its_own_host(jobs) -> None:
    root = jobs.client.info()["DockerRootDir"]
    free = await jobs.backend().free_disk_bytes()
    here = await asyncio.to_thread(os.path.isdir, root)
    assert (free is not None) is (here and "DOCKER_HOST" not in os.environ)


async def test_cancelling_a_launch_leaves_a_job_that_is_found(jobs) -> None:
    backend = jobs.backend(WAITS)
    launching = asyncio.create_task(jobs.launch(backend))
    async with asyncio.timeout(25):
        while not (found := await jobs.backend().adopt()):
            await asyncio.sleep(0.01)
    launching.cancel()
    await asyncio.gather(launching, return_exceptions=True)
    (workload,) = found.values()
    async with asyncio.timeout(25):
        while (await backend.poll(workload)).phase is not Phase.RUNNING:
            await asyncio.sleep(0.02)
