from __future__ import annotations


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
