"""Routes for monitors."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509


async def test_healthz_answers_without_authentication(running) -> None:
    response = await running.http.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_metrics_tell_jobs_by_type_state_and_stop_reason_and_their_figures(running) -> None:
    running.backend.log = b'{"event":"metrics","cpu_s":1.5,"frames_dropped":2}\n'
    first = await running.create_job(call="one")
    await running.create_job(call="one", job_type="transcribing")
    await running.create_job(call="two")
    await running.check()
    running.backend.exit(first, 3)
    await running.check()
    response = await running.http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = set(response.text.splitlines())
    assert lines >= {
        'calls_offloader_jobs{state="running",type="recording"} 1.0',
        'calls_offloader_jobs{state="running",type="transcribing"} 1.0',
        'calls_offloader_jobs{state="pending",type="recording"} 0.0',
        'calls_offloader_jobs_finished_total{stop_reason="crashed",type="recording"} 1.0',
        "calls_offloader_calls_in_progress 2.0",
        "calls_offloader_max_concurrent_jobs 2.0",
        'calls_offloader_job_figure{figure="cpu_s",statistic="sum",type="transcribing"} 1.5',
        'calls_offloader_job_figure{figure="frames_dropped",statistic="max",type="recording"} 2.0',
    }


async def test_no_metric_names_a_client_or_a_job(running) -> None:
    job_id = await running.create_job(client="plugin-of-somebody")
    await running.check()
    text = (await running.http.get("/metrics")).text
    assert "plugin-of-somebody" not in text
    assert job_id not in text


async def lines_of(running) -> set[str]:
    return set((await running.http.get("/metrics")).text.splitlines())


async def test_metrics_count_requests_by_route_and_status_never_by_path(running) -> None:
    job_id = await running.create_job()
    await running.get_job(job_id)
    await running.http.get("/nothing/at/all")
    await running.http.request("BREW", "/jobs")
    lines = await lines_of(running)
    counted = "calls_offloader_http_request_seconds_count"
    assert f'{counted}{{method="GET",route="/jobs/{{job_id}}",status="200"}} 1.0' in lines
    assert f'{counted}{{method="POST",route="/jobs",status="200"}} 1.0' in lines
    assert f'{counted}{{method="GET",route="-",status="404"}} 1.0' in lines
    assert not any("BREW" in line or "/nothing" in line for line in lines)


async def test_metrics_tell_of_admission_start_up_and_what_the_backend_could_not_do(start) -> None:
    running = await start(JOBS_MAXCONCURRENTJOBS="1")
    await running.create_job(call="one")
    running.clock.advance(seconds=3)
    await running.check()
    assert (await running.post_job(call="two")).status_code == 500
    running.backend.refuse = "no such program"
    assert (await running.post_job(call="one", job_type="transcribing")).status_code == 500
    lines = await lines_of(running)
    assert {
        'calls_offloader_admission_wait_seconds_count{admitted="true"} 2.0',
        'calls_offloader_admission_wait_seconds_count{admitted="false"} 1.0',
        'calls_offloader_job_start_seconds_sum{stage="launch",type="recording"} 0.0',
        'calls_offloader_job_start_seconds_sum{stage="start",type="recording"} 3.0',
        'calls_offloader_backend_errors_total{operation="launch"} 1.0',
    } <= lines


async def test_the_time_to_join_is_what_the_job_says_counted_once(start) -> None:
    running = await start()
    job_id = await running.create_job()
    joined = 'calls_offloader_job_start_seconds_{}{{stage="joined",type="recording"}}'
    await running.check()
    assert f"{joined.format('count')} 0.0" in await lines_of(running)
    running.backend.log = b'{"event":"started","joined_after_s":7.5}\n'
    for _ in range(3):
        running.clock.advance(seconds=10)
        await running.check()
    counted = {f"{joined.format('count')} 1.0", f"{joined.format('sum')} 7.5"}
    assert counted <= await lines_of(running)
    running.backend.exit(job_id, 0)
    await running.check()
    assert counted <= await lines_of(running)


async def test_a_job_that_an_earlier_process_started_is_not_counted_again(start) -> None:
    first = await start()
    await first.create_job()
    first.backend.log = b'{"event":"started","joined_after_s":7.5}\n'
    second = await start(backend=first.backend)
    await second.check()
    joined = 'calls_offloader_job_start_seconds_count{stage="joined",type="recording"} 0.0'
    assert joined in await lines_of(second)


async def test_metrics_tell_of_capacity_drain_disk_and_unpublished_results(running) -> None:
    job_id = await running.create_job()
    running.backend.free_disk = 4096
    await running.check()
    running.backend.exit(job_id, 1, unpublished=True)
    await running.check()
    running.clock.advance(seconds=90)
    running.offloader.entrance.close()
    assert {
        "calls_offloader_free_calls 0.0",
        "calls_offloader_draining 1.0",
        "calls_offloader_free_disk_bytes 4096.0",
        "calls_offloader_least_disk_bytes 4096.0",
        "calls_offloader_min_free_disk_bytes 1.073741824e+09",
        "calls_offloader_unpublished_results 1.0",
        "calls_offloader_outbox_oldest_age_seconds 90.0",
    } <= await lines_of(running)


async def test_what_jobs_could_not_do_is_counted_once_and_stays_counted(start) -> None:
    running = await start()
    lost = 'calls_offloader_job_losses_total{{figure="segments_failed",type="transcribing"}} {}'
    assert lost.format("0.0") in await lines_of(running), "a rise from nothing would be none"
    job_id = await running.create_job(job_type="transcribing")
    running.backend.log = b'{"event":"metrics","segments_failed":2,"segments":9}\n'
    for _ in range(2):
        await running.check()
        assert lost.format("2.0") in await lines_of(running)
    running.backend.log += b'{"event":"metrics","segments_failed":5,"segments":9}\n'
    running.backend.exit(job_id, 0)
    await running.check()
    lines = await lines_of(running)
    assert lost.format("5.0") in lines
    assert not any('figure="segments",statistic' in line for line in lines), "it has ended"


async def test_what_a_job_lost_under_an_earlier_process_is_not_counted_again(start) -> None:
    first = await start()
    await first.create_job(job_type="transcribing")
    first.backend.log = b'{"event":"metrics","segments_failed":2}\n'
    await first.check()
    second = await start(backend=first.backend)
    await second.check()
    lost = 'calls_offloader_job_losses_total{{figure="segments_failed",type="transcribing"}} {}'
    assert lost.format("0.0") in await lines_of(second)
    first.backend.log += b'{"event":"metrics","segments_failed":3}\n'
    second.clock.advance(seconds=10)
    await second.check()
    assert lost.format("1.0") in await lines_of(second)


async def test_metrics_tell_whether_the_backend_could_start_a_job(running) -> None:
    assert "calls_offloader_backend_up 1.0" in await lines_of(running)
    running.backend.unusable = "no engine"
    assert "calls_offloader_backend_up 0.0" in await lines_of(running)


async def test_metrics_tell_which_workers_can_be_reached(running) -> None:
    assert not any("worker_up{" in line for line in await lines_of(running))
    running.backend.hosts = {"host-b": False, "host-a": True}
    assert {
        'calls_offloader_worker_up{worker="host-a"} 1.0',
        'calls_offloader_worker_up{worker="host-b"} 0.0',
    } <= await lines_of(running)


def end_of(certificate: Path) -> float:
    made = x509.load_pem_x509_certificate(certificate.read_bytes())
    return made.not_valid_after_utc.timestamp()


async def test_metrics_tell_when_the_certificate_ends(serve, tmp_path, certificate) -> None:
    environ = {
        "API_HTTP_TLS_ENABLE": "true",
        "API_HTTP_TLS_CERTFILE": certificate.cert_file,
        "API_HTTP_TLS_CERTKEY": certificate.cert_key,
    }
    async with serve(tmp_path, tls=True, **environ) as served:
        text = (await served.http.get("/metrics")).text
    name = "calls_offloader_certificate_expiry_timestamp_seconds"
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    assert float(line.split()[1]) == end_of(Path(certificate.cert_file))


async def test_every_metric_has_the_prefix(running) -> None:
    await running.create_job()
    for line in await lines_of(running):
        assert line.startswith(("calls_offloader_", "# HELP calls_offloader_", "# TYPE calls_"))
