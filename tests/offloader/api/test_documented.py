"""What the HTTP API refuses, provoked and held against docs/troubleshooting.md."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import threading
from typing import Any

import httpx
import pytest

from clientauth.service import Identity
from offloader import http_guard
from offloader.cli.main import main
from offloader.store.sql import SqlJobStore

KEY = "k" * 32
SECRET = "s" * 32
OPEN = {"API_SECURITY_ALLOWSELFREGISTRATION": "true"}
CLOSED = {"API_SECURITY_ALLOWSELFREGISTRATION": "false"}
ADMIN = {"API_SECURITY_ENABLEADMIN": "true", "API_SECURITY_ADMINSECRETKEY": SECRET}
RECORDER = "mattermost/calls-recorder:v0.8.13"
NOBODY = "0123456789ab"


def entry(name: str, *values: Any) -> Any:
    """A row of a table, with the mark that says what it provokes."""
    return pytest.param(name, *values, marks=pytest.mark.documents(name), id=name)


def told(answer: httpx.Response, status: int) -> str:
    """The error of an answer."""
    document = answer.json()
    assert (answer.status_code, document["code"]) == (status, str(status)), document
    return str(document["error"])


HEADERS = [
    entry("no-credentials-in-the-request", {}),
    entry("a-key-that-is-not-the-known-one", ("plugin", "x" * 32)),
    entry("a-client-without-a-name", ("", KEY)),
    entry("a-token-that-is-not-known", {"Authorization": "Bearer nonsense"}),
]


@pytest.mark.parametrize(("name", "credentials"), HEADERS)
async def test_credentials_that_are_not_taken(
    running: Any, documented: Any, name: str, credentials: Any
) -> None:
    await running.create_job(client="plugin")
    headers = running.basic(*credentials) if isinstance(credentials, tuple) else credentials
    documented(name, told(await running.http.get(f"/jobs/{NOBODY}", headers=headers), 401))


@pytest.mark.documents("a-key-that-is-not-the-known-one", "a-key-that-is-too-short")
async def test_clients_that_register_nobody(start: Any, documented: Any) -> None:
    closed = await start(**CLOSED)
    answer = await closed.post_job(client="stranger")
    documented("a-key-that-is-not-the-known-one", told(answer, 401))
    opened = await start(**OPEN)
    short = opened.basic("plugin", "short")
    answer = await opened.http.post("/jobs", json={}, headers=short)
    documented("a-key-that-is-too-short", told(answer, 401))


@pytest.mark.documents("a-bearer-token-that-has-expired")
async def test_a_token_ends(running: Any, documented: Any) -> None:
    body = {"clientID": "plugin", "authKey": KEY}
    await running.http.post("/register", json=body)
    token = (await running.http.post("/login", json=body)).json()["bearerToken"]
    running.clock.advance(seconds=1440 * 60 + 1)
    headers = {"Authorization": f"Bearer {token}"}
    answer = await running.http.get(f"/jobs/{NOBODY}", headers=headers)
    documented("a-bearer-token-that-has-expired", told(answer, 401))


REGISTRATIONS = [
    entry("registration-with-a-short-key", "/register", {"clientID": "x", "authKey": "short"}, 400),
    entry(
        "registration-of-a-known-client",
        "/register",
        {"clientID": "plugin", "authKey": KEY},
        400,
    ),
    entry("registration-without-a-name", "/register", {"clientID": "", "authKey": KEY}, 400),
    entry("login-with-a-wrong-key", "/login", {"clientID": "plugin", "authKey": "x" * 32}, 400),
    entry("login-of-an-unknown-client", "/login", {"clientID": "x", "authKey": KEY}, 400),
    entry("a-body-that-is-no-object-of-texts", "/login", {"clientID": 7}, 400),
    entry("unregister-without-a-name", "/unregister", {"clientID": ""}, 400),
    entry("unregister-of-another-client", "/unregister", {"clientID": "other"}, 403),
]


@pytest.mark.parametrize(("name", "path", "body", "status"), REGISTRATIONS)
async def test_registrations_and_logins(
    running: Any, documented: Any, name: str, path: str, body: Any, status: int
) -> None:
    await running.create_job(client="plugin")
    await running.create_job(client="other", call="call2")
    answer = await running.http.post(path, json=body, headers=running.basic("plugin"))
    documented(name, told(answer, status))


@pytest.mark.documents(
    "unregister-where-clients-are-the-admins", "unregister-of-an-unknown-client", "only-the-admin"
)
async def test_what_is_the_admins(start: Any, documented: Any) -> None:
    closed = await start(**CLOSED)
    answer = await closed.http.post("/unregister", json={"clientID": "x"})
    documented("unregister-where-clients-are-the-admins", told(answer, 403))
    owned = await start(**ADMIN)
    admin = owned.basic("admin", SECRET)
    answer = await owned.http.post("/unregister", json={"clientID": "x"}, headers=admin)
    documented("unregister-of-an-unknown-client", told(answer, 400))
    await owned.create_job(client="plugin")
    answer = await owned.http.get("/admin/status", headers=owned.basic("plugin"))
    documented("only-the-admin", told(answer, 403))


@pytest.mark.documents("a-flood-of-logins")
async def test_a_flood_of_logins(
    running: Any, documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"clientID": "plugin", "authKey": KEY}
    await running.http.post("/register", json=body)
    let_go = threading.Event()
    monkeypatch.setattr("clientauth.failures.LONGEST_S", 0.1)
    monkeypatch.setattr("clientauth.service.verify_key", lambda *_: let_go.wait(20) and False)
    wrong = body | {"authKey": "x" * 32}
    asked = [asyncio.ensure_future(running.http.post("/login", json=wrong)) for _ in range(90)]
    refused = await next(asyncio.as_completed(asked))  # all others wait for their turn
    let_go.set()
    await asyncio.gather(*asked)
    documented("a-flood-of-logins", told(refused, 429))


def job(**changes: Any) -> dict[str, Any]:
    body = {
        "type": "recording",
        "runner": RECORDER,
        "max_duration_sec": 60,
        "input_data": {"call_id": "c", "post_id": "p", "auth_token": "t"},
    }
    return body | changes


WISHES = [
    entry("a-runner-of-another-registry", {"runner": "registry.local/calls-recorder:v0.8.13"}),
    entry("a-runner-that-is-too-old", {"runner": "mattermost/calls-recorder:v0.5.0"}),
    entry("a-job-without-a-runner", {"runner": ""}),
    entry("a-job-without-a-type", {"type": ""}),
    entry("a-job-of-an-unknown-type", {"type": "singing"}),
    entry("a-job-without-a-duration", {"max_duration_sec": 0}),
]


@pytest.mark.parametrize(("name", "changes"), WISHES)
async def test_jobs_that_cannot_be(running: Any, documented: Any, name: str, changes: Any) -> None:
    headers = running.basic("plugin")
    documented(
        name, told(await running.http.post("/jobs", json=job(**changes), headers=headers), 400)
    )


@pytest.mark.documents("a-site-that-is-not-served", "a-site-where-metadata-services-are")
async def test_sites_that_no_job_goes_to(start: Any, documented: Any) -> None:
    named = await start(JOBS_ALLOWEDSITEURLS='["https://chat.example.com"]')
    data = {"call_id": "c", "post_id": "p", "site_url": "https://other.example.com"}
    documented("a-site-that-is-not-served", told(await named.post_job(input_data=data), 400))
    everything = await start()
    data["site_url"] = "http://169.254.169.254"
    answer = await everything.post_job(input_data=data)
    documented("a-site-where-metadata-services-are", told(answer, 400))


INITS = [
    entry("no-runners-at-the-plugins-start", []),
    entry("image-registry-and-plugin-do-not-agree", ["registry.local/calls-recorder:v0.8.13"]),
]


@pytest.mark.parametrize(("name", "runners"), INITS)
async def test_the_plugins_first_question(
    running: Any, documented: Any, name: str, runners: Any
) -> None:
    headers = running.basic("plugin")
    answer = await running.http.post("/jobs/init", json={"Runners": runners}, headers=headers)
    documented(name, told(answer, 400))


@pytest.mark.documents("a-body-that-is-no-json", "a-body-that-is-too-large")
async def test_bodies(running: Any, documented: Any) -> None:
    headers = running.basic("plugin")
    answer = await running.http.post("/jobs", content=b"{", headers=headers)
    documented("a-body-that-is-no-json", told(answer, 400))
    large = json.dumps({"clientID": "x" * 2**20, "authKey": KEY})
    answer = await running.http.post("/login", content=large.encode())
    documented("a-body-that-is-too-large", told(answer, 413))


@pytest.mark.documents("max-concurrent-jobs-reached")
async def test_one_call_too_many(running: Any, documented: Any) -> None:
    for call in ("one", "two"):
        await running.create_job(call=call, input_data={"call_id": call, "post_id": call})
    answer = await running.post_job(input_data={"call_id": "three", "post_id": "three"})
    documented("max-concurrent-jobs-reached", told(answer, 500))


@pytest.mark.documents("not-enough-disk")
async def test_a_disk_with_little_room(running: Any, documented: Any) -> None:
    running.backend.free_disk = 2**30
    documented("not-enough-disk", told(await running.post_job(), 500))


@pytest.mark.documents("the-service-is-being-drained", "not-ready")
async def test_a_service_that_is_drained(start: Any, documented: Any) -> None:
    running = await start(**ADMIN)
    await running.create_job()
    admin = running.basic("admin", SECRET)
    answer = await running.http.post("/admin/drain", headers=admin)
    assert answer.status_code < 300, answer.text
    documented("the-service-is-being-drained", told(await running.post_job(), 500))
    documented("not-ready", told(await running.http.get("/readyz"), 503))


@pytest.mark.documents("the-service-is-shutting-down", "drain-while-the-service-ends")
async def test_a_service_that_ends(start: Any, documented: Any) -> None:
    running = await start(**ADMIN)
    running.offloader.entrance.close(for_good=True)
    documented("the-service-is-shutting-down", told(await running.post_job(), 500))
    admin = running.basic("admin", SECRET)
    answer = await running.http.post("/admin/undrain", headers=admin)
    documented("drain-while-the-service-ends", told(answer, 409))


@pytest.mark.documents(
    "an-unknown-job", "the-log-of-an-unknown-job", "an-unknown-path", "the-job-is-running"
)
async def test_what_is_not_there(running: Any, documented: Any) -> None:
    job_id = await running.create_job()
    headers = running.basic("plugin")
    answer = await running.http.get(f"/jobs/{NOBODY}", headers=headers)
    documented("an-unknown-job", told(answer, 404))
    answer = await running.http.get(f"/jobs/{NOBODY}/logs", headers=headers)
    documented("the-log-of-an-unknown-job", told(answer, 403))
    documented("an-unknown-path", told(await running.http.get("/job"), 404))
    answer = await running.http.delete(f"/jobs/{job_id}", headers=headers)
    documented("the-job-is-running", told(answer, 400))


@pytest.mark.documents("nothing-to-publish", "no-such-artifact", "a-recording-has-no-audio-apart")
async def test_what_a_job_does_not_have(running: Any, documented: Any) -> None:
    job_id = await running.create_job()
    running.backend.exit(job_id, 0)
    await running.check()
    headers = running.basic("plugin")
    answer = await running.http.post(f"/jobs/{job_id}/republish", headers=headers)
    documented("nothing-to-publish", told(answer, 409))
    answer = await running.http.get(f"/jobs/{job_id}/artifacts/part.mp4", headers=headers)
    documented("no-such-artifact", told(answer, 404))
    answer = await running.http.post(f"/jobs/{job_id}/retranscribe", headers=headers)
    documented("a-recording-has-no-audio-apart", told(answer, 409))


@pytest.mark.documents("no-audio-was-kept", "the-job-still-runs", "no-token-to-post-with")
async def test_transcribing_again_what_cannot_be(running: Any, documented: Any) -> None:
    data = {"call_id": "c", "post_id": "p", "transcription_id": "t" * 26}
    job_id = await running.create_job(job_type="transcribing", input_data=data)
    path, headers = f"/jobs/{job_id}/retranscribe", running.basic("plugin")
    documented("the-job-still-runs", told(await running.http.post(path, headers=headers), 409))
    running.backend.exit(job_id, 0)
    await running.check()
    documented("no-audio-was-kept", told(await running.http.post(path, headers=headers), 409))
    audio = f"{'t' * 26}/artifacts/audio/u_t.ogg"
    running.backend.files = {audio: b"x", f"{audio}.index": b"x"}
    answer = await running.http.post(path, json={"publish": True}, headers=headers)
    documented("no-token-to-post-with", told(answer, 409))


@pytest.mark.documents("an-idempotency-key-for-another-job", "an-idempotency-key-of-no-use")
async def test_idempotency_keys(running: Any, documented: Any) -> None:
    headers = running.basic("plugin") | {"Idempotency-Key": "one"}
    await running.http.post("/jobs", json=job(), headers=headers)
    answer = await running.http.post("/jobs", json=job(max_duration_sec=61), headers=headers)
    documented("an-idempotency-key-for-another-job", told(answer, 422))
    headers["Idempotency-Key"] = "a b"
    answer = await running.http.post("/jobs", json=job(), headers=headers)
    documented("an-idempotency-key-of-no-use", told(answer, 400))


@pytest.mark.documents("a-query-of-another-form", "a-page-that-does-not-exist")
async def test_queries(running: Any, documented: Any) -> None:
    await running.create_job()
    headers = running.basic("plugin")
    answer = await running.http.get("/jobs?limit=0", headers=headers)
    documented("a-query-of-another-form", told(answer, 400))
    answer = await running.http.get("/jobs?before=nonsense", headers=headers)
    documented("a-page-that-does-not-exist", told(answer, 400))


@pytest.mark.documents("the-database-cannot-be-used")
async def test_a_database_that_fails(
    running: Any, documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await running.create_job()
    from offloader.errors import StoreError

    async def broken(*_: Any, **__: Any) -> None:
        raise StoreError("disk I/O error")

    monkeypatch.setattr(SqlJobStore, "get", broken)
    answer = await running.http.get(f"/jobs/{NOBODY}", headers=running.basic("plugin"))
    documented("the-database-cannot-be-used", told(answer, 500))


@pytest.mark.documents("a-client-listens-too-often")
async def test_a_client_that_listens_too_often(start: Any, documented: Any) -> None:
    running = await start(**OPEN, JOBS_CLIENTLIMITS_EVENTSTREAMS="1")
    job_id = await running.create_job()
    store = running.offloader.service._store
    owner = await store.get(job_id)
    listening = Identity("plugin", registration=owner.registration)
    async with running.offloader.events.listen(listening):
        answer = await running.http.get("/events", headers=running.basic("plugin"))
    documented("a-client-listens-too-often", told(answer, 429))


@pytest.mark.documents(
    "a-client-has-all-its-calls", "too-many-jobs-of-a-client-wait", "a-client-has-no-disk-left"
)
async def test_a_client_that_has_what_it_may_have(start: Any, documented: Any) -> None:
    limits = {"JOBS_CLIENTLIMITS_SLOTS": "1", "JOBS_CLIENTLIMITS_QUEUE": "1"}
    running = await start(**OPEN, **limits, JOBS_CLIENTLIMITS_DISK="1GiB")
    answer = await running.post_job()
    documented("a-client-has-no-disk-left", told(answer, 500))
    short = {"max_duration_sec": 60}
    await running.create_job(**short)
    answer = await running.post_job(call="two", **short)
    documented("a-client-has-all-its-calls", told(answer, 500))
    running.offloader.entrance._wait_s = 600
    waiting = asyncio.create_task(running.post_job(call="two", **short))
    while not running.offloader.entrance._line.count("plugin"):
        await asyncio.sleep(0)
    answer = await running.post_job(call="three", **short)
    documented("too-many-jobs-of-a-client-wait", told(answer, 500))
    running.offloader.entrance.close()
    assert (await waiting).status_code == 500


@pytest.mark.documents(
    "registration-of-a-client-that-is-not-named", "registration-from-a-network-that-is-not-named"
)
async def test_clients_that_may_not_register_themselves(start: Any, documented: Any) -> None:
    for setting, value, name in (
        ("CLIENTS", "plugin", "registration-of-a-client-that-is-not-named"),
        ("NETWORKS", "10.0.0.0/8", "registration-from-a-network-that-is-not-named"),
    ):
        narrowed = await start(**OPEN, **{f"API_SECURITY_ALLOWED{setting}": value})
        body = {"clientID": "stranger", "authKey": KEY}
        documented(name, told(await narrowed.http.post("/register", json=body), 403))


@pytest.mark.documents("too-many-registrations-from-a-network", "too-many-clients")
async def test_more_clients_than_may_register_themselves(start: Any, documented: Any) -> None:
    for setting, name in (
        ("PERNETWORK", "too-many-registrations-from-a-network"),
        ("TOTAL", "too-many-clients"),
    ):
        narrowed = await start(**OPEN, **{f"API_SECURITY_REGISTRATIONLIMITS_{setting}": "1"})
        body = {"clientID": "first", "authKey": KEY}
        await narrowed.http.post("/register", json=body)  # the second service finds it there
        body = {"clientID": "stranger", "authKey": KEY}
        documented(name, told(await narrowed.http.post("/register", json=body), 429))
        metrics = (await narrowed.http.get("/metrics")).text
        limit = {"PERNETWORK": "per_network", "TOTAL": "total"}[setting]
        assert f'calls_offloader_registrations_refused_total{{limit="{limit}"}} 1.0' in metrics


@pytest.mark.documents("an-address-listens-too-often")
async def test_an_address_that_listens_too_often(
    running: Any, documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await running.create_job()
    monkeypatch.setattr("offloader.events.MOST_OF_ONE_SOURCE", 0)
    answer = await running.http.get("/events", headers=running.basic("plugin"))
    documented("an-address-listens-too-often", told(answer, 429))


@pytest.mark.documents("nobody-more-can-listen")
async def test_too_many_listeners(running: Any, documented: Any) -> None:
    await running.create_job()
    running.offloader.events.close()
    answer = await running.http.get("/events", headers=running.basic("plugin"))
    documented("nobody-more-can-listen", told(answer, 503))


async def said(address: tuple[str, int], request: bytes) -> str:
    """The error of the answer to these bytes."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(request)
    await writer.drain()
    async with asyncio.timeout(25):
        everything = await reader.read()
    writer.close()
    return str(json.loads(everything.partition(b"\r\n\r\n")[2])["error"])


@pytest.mark.documents(
    "a-head-that-is-too-large", "a-request-that-takes-too-long", "too-many-connections"
)
async def test_requests_that_hold_up_others(
    serve: Any, tmp_path: Any, documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_guard, "HEAD_S", 0.1)
    async with serve(tmp_path) as served:
        large = b"GET / HTTP/1.1\r\nx: " + b"x" * (70 * 2**10)
        documented("a-head-that-is-too-large", await said(served.address, large))
        documented("a-request-that-takes-too-long", await said(served.address, b"GET /"))
        monkeypatch.setattr(http_guard, "MOST_OF_ONE_ADDRESS", 0)
        documented("too-many-connections", await said(served.address, b""))


@pytest.mark.documents("the-images-cannot-be-had")
async def test_runners_that_cannot_be_prepared(
    running: Any, documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from offloader.errors import BackendError

    async def prepare(_: Any) -> None:
        raise BackendError("image registry.local/calls-recorder:v1 is not on the engine")

    monkeypatch.setattr(running.backend, "prepare", prepare)
    body = {"Runners": [RECORDER]}
    answer = await running.http.post("/jobs/init", json=body, headers=running.basic("plugin"))
    documented("the-images-cannot-be-had", told(answer, 500))


async def command(*arguments: str) -> str:
    """The sentence with which a command of this release fails."""
    out = io.StringIO()
    with contextlib.redirect_stderr(out):
        await asyncio.to_thread(main, [*arguments, "--config", "/nonexistent/config.toml"])
    return out.getvalue().splitlines()[-1]


@pytest.mark.documents(
    "https-asked-for-and-http-served",
    "http-asked-for-and-https-served",
    "a-certificate-that-nobody-trusts",
)
async def test_http_and_https_taken_for_each_other(
    serve: Any, tmp_path: Any, documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ADMIN.items():
        monkeypatch.setenv(name, value)
    async with serve(tmp_path) as served:
        text = await command("status", "--url", f"https://127.0.0.1:{served.address[1]}")
        documented("https-asked-for-and-http-served", text)
    async with serve(tmp_path, tls=True) as served:
        port = served.address[1]
        text = await command("status", "--url", f"http://127.0.0.1:{port}")
        documented("http-asked-for-and-https-served", text)
        text = await command("status", "--url", f"https://127.0.0.1:{port}")
        documented("a-certificate-that-nobody-trusts", text)
