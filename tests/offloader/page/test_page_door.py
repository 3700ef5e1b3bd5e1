"""The page's routes: who gets what, with which headers; everything else is refused and says nothing."""

from __future__ import annotations

import asyncio

import pytest
import structlog

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
ID = "5f0c3ba1d29e"


def check_headers(answer) -> None:
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'; frame-ancestors 'none'")
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "www-authenticate" not in answer.headers


@pytest.mark.parametrize("accept", ["*/*", "application/json", ""])
async def test_what_is_no_browser_sees_at_the_root_what_it_ever_saw(paged, accept: str) -> None:
    answer = await paged.http.get("/", headers={"Accept": accept})
    assert (answer.status_code, answer.json()) == (404, {"error": "not found", "code": "404"})
    assert (await paged.http.post("/", headers=BROWSER)).status_code == 404


async def test_a_browser_gets_the_page_and_its_files_without_a_login(paged) -> None:
    index = await paged.http.get("/", headers=BROWSER)
    assert index.status_code == 200
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    assert index.headers["vary"] == "Accept"
    check_headers(index)
    for name, media_type in (("app.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        file = await paged.http.get(f"/page/{name}")
        assert file.headers["content-type"].startswith(media_type)
        check_headers(file)
    missing = await paged.http.get("/page/secrets.toml")
    assert missing.status_code == 404
    check_headers(missing)
    assert (await paged.http.get("/page/..%2fapi%2fpage.py")).status_code == 404


async def test_a_file_that_the_browser_has_is_not_sent_again(paged) -> None:
    first = await paged.http.get("/page/app.js")
    assert first.headers["cache-control"] == "no-cache"
    again = await paged.http.get("/page/app.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    check_headers(again)
    other = await paged.http.get("/page/app.js", headers={"If-None-Match": '"another"'})
    assert other.status_code == 200


@pytest.mark.parametrize(
    "environ",
    [
        {"API_SECURITY_ENABLEADMIN": "false"},
        {"API_SECURITY_ENABLEADMIN": "false", "API_SECURITY_ADMINSECRETKEY": ""},
        {"API_ADMIN_PAGE": "false"},
    ],
)
async def test_without_an_admin_key_or_with_the_page_off_there_is_nothing(opened, environ) -> None:
    paged = await opened(**environ)
    for path in ("/", "/page/app.js", "/page/session", "/page/api/jobs"):
        answer = await paged.http.get(path, headers=BROWSER)
        assert (answer.status_code, answer.json()["error"]) == (404, "not found")
    assert (await paged.login()).status_code == 404


async def test_the_session_is_a_cookie_that_scripts_and_other_sites_have_no_use_of(paged) -> None:
    answer = await paged.login()
    assert answer.status_code == 200
    check_headers(answer)
    cookie = answer.headers["set-cookie"]
    token = cookie.split("=", 1)[1].split(";")[0]
    attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/page", "max-age=43200"} <= attributes
    assert "secure" not in attributes
    assert token not in answer.text
    assert (await paged.http.get("/page/session")).json()["show_content"] is False


@pytest.mark.documents("a-login-that-does-not-come-from-the-page")
async def test_over_tls_the_cookie_is_secure_also_where_a_proxy_ends_it(opened, documented) -> None:
    direct = await opened(base_url="https://offloader")
    answer = await direct.login(Origin="https://offloader")
    assert "; Secure" in answer.headers["set-cookie"]
    refused = await direct.login(Origin="http://offloader")
    assert refused.status_code == 403
    documented("a-login-that-does-not-come-from-the-page", refused.json()["error"])
    behind = await opened()
    answer = await behind.login(Origin="https://offloader", Host="offloader")
    assert "; Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"key":"wrong"}', 401),
        pytest.param(b'{"key":""}', 400, marks=pytest.mark.documents("a-login-without-a-key")),
        pytest.param(b'{"key":7}', 400, marks=pytest.mark.documents("a-login-without-a-key")),
        pytest.param(
            b'{"key":"\\ud800"}', 400, marks=pytest.mark.documents("a-login-without-a-key")
        ),
        pytest.param(
            b'{"key":"' + b"x" * 1025 + b'"}',
            400,
            marks=pytest.mark.documents("a-login-without-a-key"),
        ),
        pytest.param(b"[]", 400, marks=pytest.mark.documents("a-login-without-a-key")),
        pytest.param(b"", 400, marks=pytest.mark.documents("a-login-without-a-key")),
    ],
)
async def test_a_login_without_the_right_key_opens_nothing(
    paged, body: bytes, status: int, documented
) -> None:
    answer = await paged.http.post(
        "/page/login", content=body, headers={"Origin": "http://offloader"}
    )
    assert answer.status_code == status
    assert "set-cookie" not in answer.headers
    check_headers(answer)
    if status == 400:
        documented.marked(answer.json()["error"])


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "http://evil.example",
        "http://offloader:8080",
        "http://offloader.evil.example",
        "ftp://offloader",
        "http://offloader:x",
        "http://[::1",
    ],
)
async def test_what_another_site_sends_changes_nothing(admin, origin: str) -> None:
    job_id = await admin.create_job()
    await admin.offloader.supervisor.check()
    headers = {"Origin": origin} if origin else {}
    for path in (
        "/page/login",
        "/page/logout",
        f"/page/api/jobs/{job_id}/stop",
        f"/page/api/jobs/{job_id}/republish",
    ):
        answer = await admin.http.post(path, json={"key": "x"}, headers=headers)
        assert answer.status_code == 403, path
        check_headers(answer)
    assert admin.backend.stopped == []
    assert (await admin.http.get("/page/session")).json()["logged_in"] is True


@pytest.mark.documents("not-logged-in-on-the-page")
async def test_without_a_session_the_data_are_nobodys_not_even_with_the_key(
    paged, documented
) -> None:
    for headers in ({}, {"Cookie": "calls_offloader_page=guessed"}):
        answer = await paged.http.get("/page/api/jobs", headers=headers)
        assert answer.status_code == 401
        check_headers(answer)
    answer = await paged.http.get(
        "/page/api/jobs", auth=("admin", "the-admin's-own-key-of-this-test")
    )
    assert answer.status_code == 401
    documented("not-logged-in-on-the-page", answer.json()["error"])


async def test_the_cookie_is_no_way_into_the_api_itself(admin) -> None:
    assert (await admin.http.get("/jobs")).status_code == 401
    token = admin.http.cookies["calls_offloader_page"]
    answer = await admin.http.get("/jobs", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


async def test_the_admin_sees_and_stops_everybodys_jobs(admin) -> None:
    job_id = await admin.create_job()
    await admin.offloader.supervisor.check()
    answer = await admin.http.get("/page/api/jobs?limit=5")
    check_headers(answer)
    assert answer.headers["cache-control"] == "no-store"
    [job] = answer.json()["jobs"]
    assert (job["id"], job["client_id"], job["input_data"]["auth_token"]) == (
        job_id,
        "plugin",
        "***",
    )
    answer = await admin.post(f"/page/api/jobs/{job_id}/stop")
    assert (answer.status_code, answer.json()["state"]) == (202, "stopping")
    for path in ("capacity", "readyz", "version", "admin/status", f"jobs/{job_id}?details=1"):
        assert (await admin.http.get(f"/page/api/{path}")).status_code == 200, path
    assert (await admin.http.get(f"/page/api/jobs/{job_id}/logs")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "admin/clients"),
        ("GET", "metrics"),
        ("GET", "page/session"),
        ("GET", "jobs/../admin/clients"),
        ("GET", f"jobs/{ID}/stop"),
        ("POST", "admin/drain"),
        ("POST", "jobs"),
        ("POST", f"jobs/{ID}/retranscribe"),
        ("POST", "register"),
    ],
)
async def test_what_the_page_does_not_need_it_does_not_get(admin, method: str, path: str) -> None:
    answer = await admin.http.request(
        method, f"/page/api/{path}", headers={"Origin": "http://offloader"}
    )
    assert answer.status_code == 404
    check_headers(answer)


@pytest.mark.documents("files-that-the-page-does-not-give-out")
async def test_recordings_are_given_out_only_where_the_setting_says_so(opened, documented) -> None:
    for shown, status in (("false", 403), ("true", 200)):
        paged = await opened(API_ADMIN_SHOWCONTENT=shown)
        await paged.login()
        job_id = await paged.create_job()
        paged.backend.files = {"r/<img src=x onerror=alert(1)>.mp4": b"voices"}
        names = (await paged.http.get(f"/page/api/jobs/{job_id}/artifacts")).json()["artifacts"]
        assert names[0]["name"] == "r/<img src=x onerror=alert(1)>.mp4"
        answer = await paged.http.get(
            f"/page/api/jobs/{job_id}/artifacts/r/%3Cimg%20src=x%20onerror=alert(1)%3E.mp4"
        )
        assert answer.status_code == status
        if status == 403:
            documented("files-that-the-page-does-not-give-out", answer.json()["error"])
        check_headers(answer)
        assert (answer.content == b"voices") == (shown == "true")
        if shown == "true":
            assert answer.headers["content-disposition"].startswith("attachment")


async def test_a_logout_ends_the_session_and_the_stream_that_it_has_open(admin) -> None:
    listening = asyncio.create_task(admin.http.get("/page/api/events"))
    async with asyncio.timeout(20):
        while not admin.offloader.events._here:
            await asyncio.sleep(0.01)
    assert not listening.done()
    answer = await admin.post("/page/logout")
    assert 'calls_offloader_page=""' in answer.headers["set-cookie"]
    async with asyncio.timeout(20):
        assert (await listening).status_code == 200
    assert (await admin.http.get("/page/session")).json() == {"logged_in": False}


async def test_a_page_that_only_looks_does_not_keep_its_session(admin) -> None:
    for _ in range(3):
        admin.clock.advance(seconds=700)
        answer = await admin.http.get("/page/api/capacity", headers={"X-Background": "1"})
    assert answer.status_code == 401


@pytest.mark.slow
async def test_a_flood_of_logins_waits_for_its_turn_and_is_then_refused(paged, monkeypatch) -> None:
    monkeypatch.setattr("clientauth.failures.LONGEST_S", 0.1)
    answers = await asyncio.gather(*(paged.login("wrong") for _ in range(90)))
    assert {answer.status_code for answer in answers} == {401, 429}


async def test_looking_on_is_not_told_in_the_log_and_doing_something_is(opened) -> None:
    admin = await opened(API_ADMIN_SHOWCONTENT="true")
    await admin.login()
    job_id = await admin.create_job()
    admin.backend.files = {"a.mp4": b"voices"}
    await admin.offloader.supervisor.check()
    with structlog.testing.capture_logs() as logs:
        await admin.http.get("/page/api/jobs")
        await admin.http.get(f"/page/api/jobs/{job_id}/artifacts/a.mp4")
        await admin.post(f"/page/api/jobs/{job_id}/stop")
    told = [(line["log_level"], line["method"], line["route"]) for line in logs if "route" in line]
    assert told == [
        ("debug", "GET", "/page/api/{path:path}"),
        ("info", "GET", "/page/api/jobs/{job_id}/artifacts/{name:path}"),
        ("info", "POST", "/page/api/{path:path}"),
    ]
