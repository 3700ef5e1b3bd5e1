"""The admin's page in a real Chromium, as somebody uses it: by mouse and by keyboard, dark and light."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from foundation.clock import SystemClock
from offloader.app import Offloader, running_offloader
from offloader.backends.stub import StubBackend
from offloader.http_server import HttpServer
from offloader.settings import load_settings
from testbed.browser.chromium import Chromium, ChromiumMissing, find_chromium, started_chromium
from testbed.browser.tab import Tab

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(60),
    pytest.mark.asyncio(loop_scope="module"),
]

ADMIN_KEY = "theadminsownkeyofthistest"
MARKUP = '<img src=x onerror="window.broken=1">'
JOB = {
    "type": "recording",
    "runner": "mattermost/calls-recorder:v0.8.13",
    "max_duration_sec": 3600,
    "input_data": {
        "call_id": MARKUP,
        "post_id": "post1",
        "site_url": "https://chat.example.com",
        "recording_id": "67t5u6cmtfbb7jug739d43xa9e",
        "auth_token": "hidden-token",
    },
}


@dataclass
class Site:
    """A service that listens."""

    url: str
    offloader: Offloader
    backend: StubBackend
    http: httpx.AsyncClient

    async def create_job(self, **changes: Any) -> str:
        answer = await self.http.post("/jobs", json=JOB | changes, auth=("plugin", "k" * 32))
        assert answer.status_code == 200, answer.text
        job_id = str(answer.json()["id"])
        await self.offloader.supervisor.check()
        return job_id

    async def end(self, job_id: str, code: int = 0, **facts: Any) -> None:
        self.backend.exit(job_id, code, **facts)
        await self.offloader.supervisor.check()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def chromium(
    tmp_path_factory: pytest.TempPathFactory, engine_missing: Callable[[str, str], None]
) -> AsyncIterator[Chromium]:
    try:
        find_chromium()
    except ChromiumMissing as error:
        engine_missing("chromium", str(error))
    async with started_chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    settings = load_settings(
        tmp_path / "none.toml",
        {
            "STORE_DATASOURCE": str(tmp_path / "store.db"),
            "JOBS_PROCESS_JOBSDIR": str(tmp_path / "jobs"),
            "API_SECURITY_ALLOWSELFREGISTRATION": "true",
            "API_SECURITY_ENABLEADMIN": "true",
            "API_SECURITY_ADMINSECRETKEY": ADMIN_KEY,
            "JOBS_ADMISSIONWAITS": "0",
            "JOBS_MAXCONCURRENTJOBS": "3",
        },
    )
    backend = StubBackend(free_disk=52 << 30)
    sock = socket.socket(proto=socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    sock.listen(64)
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    async with AsyncExitStack() as stack:
        offloader = await stack.enter_async_context(
            running_offloader(settings, environ={}, clock=SystemClock(), backend=backend)
        )
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=20))
        server = HttpServer(offloader.app)
        serving = asyncio.create_task(server.serve([sock]))
        while not server.started:
            await asyncio.sleep(0.005)
        yield Site(url, offloader, backend, http)
        offloader.events.close()
        server.should_exit = True
        await serving


Visit = Callable[..., Awaitable[Tab]]


@pytest_asyncio.fixture(loop_scope="module")
async def visit(chromium: Chromium, site: Site) -> AsyncIterator[Visit]:
    """`await visit()`: a tab in which the admin is logged in. In the end no page may have had an error."""
    tabs: list[Tab] = []

    async def visit_one(*, login: bool = True) -> Tab:
        tab = await chromium.open(f"{site.url}/")
        tabs.append(tab)
        await tab.until("() => !document.getElementById('login').hidden")
        if login:
            await tab.run(
                "(key) => { document.getElementById('key').value = key;"
                " document.querySelector('#login-form button').click(); }",
                ADMIN_KEY,
            )
            await tab.until("() => document.getElementById('connection').textContent === 'live'")
        return tab

    yield visit_one
    # Before the logout: what a page asks after it is refused, which the browser counts as an error.
    errors = [error for tab in tabs for error in tab.errors]
    for tab in tabs:
        await tab.run(
            "() => { localStorage.clear(); return fetch('page/logout', {method: 'POST'}); }"
        )
        await tab.close()
    assert errors == []


TEXT = "(id) => document.getElementById(id).textContent"


async def click_first(tab: Tab, selector: str) -> None:
    """As soon as there is one."""
    await tab.until(f"() => document.querySelector('{selector}') !== null")
    await tab.run(f"() => document.querySelector('{selector}').click()")


async def test_jobs_appear_and_change_as_they_do_and_nothing_is_markup(visit, site) -> None:
    tab = await visit()
    assert "No job is running" in await tab.run(TEXT, "live-empty")
    assert await tab.run(TEXT, "ended-empty") == "No failures."
    job_id = await site.create_job()
    await tab.until(f"() => ({TEXT})('live').includes('{job_id}')")
    await tab.until(f"() => ({TEXT})('live').includes('in the call')")
    await tab.until(f"() => ({TEXT})('calls') === '1 of 3'")
    await site.end(
        job_id, 1, unpublished=True, detail=f"POST upload: refused with HTTP 413 {MARKUP}"
    )
    await tab.until(f"() => ({TEXT})('ended').includes('{job_id}')")
    row = await tab.run(TEXT, "ended")
    assert "upload" in row
    assert "client_max_body_size" in row
    assert job_id not in await tab.run(TEXT, "live")
    site.backend.log = f'{{"level": "info", "event": "{MARKUP}"}}\nplain {MARKUP}\n'.encode()
    site.backend.files = {f"r/{MARKUP}.mp4": b"12345"}
    await tab.run("() => document.querySelector('#ended button').click()")
    await tab.until(f"(text) => ({TEXT})('log').includes('plain ' + text)", MARKUP)
    await tab.until(f"(text) => ({TEXT})('files').includes(text)", MARKUP)
    assert MARKUP in await tab.run(TEXT, "job-facts")
    assert MARKUP in await tab.run(TEXT, "failure-evidence")
    assert "413" in await tab.run(TEXT, "failure-evidence")
    assert await tab.run("() => document.querySelectorAll('dialog img, table img').length") == 0
    assert await tab.run("() => document.querySelectorAll('#files a').length") == 0
    assert await tab.run("() => window.broken ?? null") is None


async def test_a_running_jobs_log_is_followed_and_the_stream_comes_back(visit, site) -> None:
    tab = await visit()
    job_id = await site.create_job()
    site.backend.log = b"first\n"
    await click_first(tab, "#live button")
    await tab.until(f"() => ({TEXT})('log') === 'first\\n'")
    site.backend.log += b"second\n"
    await tab.until(f"() => ({TEXT})('log') === 'first\\nsecond\\n'")
    assert await tab.run(TEXT, "log-state") == "live"
    await site.end(job_id)
    await tab.until(f"() => ({TEXT})('log-state') === 'complete'")
    await tab.run("() => document.getElementById('job-close').click()")
    # Another place ends this one's session: the page says so and asks for the key again.
    await tab.run("() => fetch('page/logout', {method: 'POST'})")
    await tab.until(f"() => ({TEXT})('login-error').includes('session has ended')")
    assert await tab.run(TEXT, "live") == ""
    tab.errors.clear()  # the browser tells of the 401


async def test_a_job_is_stopped_by_keyboard_alone_after_a_question(visit, site) -> None:
    tab = await visit(login=False)
    focus = "() => document.activeElement.id || document.activeElement.className"
    assert await tab.run(focus) == "key"
    for letter in "wrong":
        await tab.press(letter)
    await tab.press("Enter")
    await tab.until(f"() => ({TEXT})('login-error').includes('not the admin')")
    assert await tab.run(focus) == "key"
    tab.errors.clear()  # the browser tells of the 401
    await tab.run("() => document.getElementById('key').value = ''")
    for letter in ADMIN_KEY:
        await tab.press(letter)
    await tab.press("Enter")
    await tab.until("() => document.getElementById('connection').textContent === 'live'")
    assert await tab.run(focus) == "main"
    job_id = await site.create_job()
    await tab.until("() => document.querySelector('#live button') !== null")

    async def tab_to(wanted: str) -> None:
        for _ in range(20):
            if await tab.run(focus) == wanted:
                return
            await tab.press("Tab")
        raise AssertionError(
            f"{wanted} is not reached by Tab; {await tab.run(focus)} has the focus"
        )

    await tab_to("link")
    await tab.press("Enter")
    await tab.until(f"() => ({TEXT})('job-title').includes('Recording')")
    await tab_to("job-stop")
    await tab.press("Enter")
    await tab.until("() => document.getElementById('confirm').open")
    assert await tab.run(focus) == "confirm-no", "whoever presses Enter twice stops nothing"
    await tab.press("Enter")
    await tab.until("() => !document.getElementById('confirm').open")
    assert site.backend.stopped == []
    await tab_to("job-stop")
    await tab.press("Enter")
    await tab_to("confirm-yes")
    await tab.press("Enter")
    await tab.until(f"() => ({TEXT})('job-facts').includes('stopping: requested')")
    await site.offloader.supervisor.check()
    assert [stopped for stopped, _ in site.backend.stopped] == [job_id]
    await tab_to("job-close")
    await tab.press("Enter")
    await tab.until("() => !document.getElementById('job').open")
    assert await tab.run(focus) == "link", "the focus is back where it came from"


async def test_a_result_that_was_not_published_is_published_after_a_question(visit, site) -> None:
    tab = await visit()
    job_id = await site.create_job()
    await site.end(job_id, 1, unpublished=True)
    await click_first(tab, "#ended button")
    await tab.until("() => document.getElementById('job-republish').checkVisibility()")
    assert await tab.run("() => document.getElementById('job-stop').hidden")
    for answer in ("confirm-no", "confirm-yes"):
        assert site.backend.salvaged == []
        await tab.run("() => document.getElementById('job-republish').click()")
        await tab.until("() => document.getElementById('confirm').open")
        await tab.run("(id) => document.getElementById(id).click()", answer)
    await tab.until(f"() => ({TEXT})('job-done') === 'It is tried now.'")
    await site.offloader.supervisor.check()
    assert [salvaged for salvaged, _ in site.backend.salvaged] == [job_id]


async def test_a_hold_and_a_deletion_that_waits_are_told_in_words_and_not_as_markup(
    visit, site, axe_violations
) -> None:
    tab = await visit()
    posts = ["p" * 26, "q" * 26]
    held, doomed = [
        await site.create_job(input_data={"call_id": post, "post_id": post}) for post in posts
    ]
    await tab.until(f"(id) => ({TEXT})('live').includes(id)", doomed)

    async def data(action: str, **body: str) -> None:
        answer = await site.http.post(f"/admin/data/{action}", json=body, auth=("admin", ADMIN_KEY))
        assert answer.status_code == 200, answer.text

    await data("hold", call=posts[0], hold=f"case {MARKUP}")
    await tab.until(f"() => ({TEXT})('live').includes('in the call; on hold')")
    for job_id in (held, doomed):
        await site.end(job_id, 1)
    await tab.until(f"() => ({TEXT})('ended').includes('; on hold')")
    open_one = (
        "(id) => [...document.querySelectorAll('#ended button')]"
        ".find((button) => button.textContent === id).click()"
    )
    await tab.run(open_one, held)
    await tab.until(
        f"(text) => ({TEXT})('job-facts').includes(text)",
        f"Deletionon hold: exempt from every deletion (case {MARKUP})",
    )
    assert await tab.run("() => document.querySelectorAll('dialog img, table img').length") == 0
    assert await axe_violations(tab) == []
    site.backend.unreachable = "the engine is down"
    await data("delete", call=posts[1])
    await tab.until(f"() => ({TEXT})('ended').includes('; to be deleted')")
    await tab.run(open_one, doomed)
    await tab.until(
        f"() => ({TEXT})('job-facts').includes('to be deleted as soon as what it left can be reached')"
    )
    assert await tab.run(TEXT, "files-note") == "They are to be deleted."
    assert await axe_violations(tab) == []
    assert await tab.run("() => window.broken ?? null") is None
    site.backend.unreachable = ""
    await data("delete", call=posts[1])
    await tab.until(f"(id) => !({TEXT})('ended').includes(id)", doomed)
    await tab.until(f"() => ({TEXT})('job-error') === 'This job was deleted.'")
    tab.errors.clear()  # the browser tells of the 404


async def test_dark_and_light_follow_the_system_until_somebody_says_otherwise(visit) -> None:
    tab = await visit(login=False)
    back = "() => getComputedStyle(document.body).backgroundColor"
    await tab.prefer("dark")
    dark = await tab.run(back)
    await tab.prefer("light")
    light = await tab.run(back)
    assert dark != light
    await tab.run("() => document.getElementById('theme').click()")
    assert await tab.run(back) == dark
    await tab.reload()
    await tab.until("() => document.documentElement.dataset.theme === 'dark'")
    assert await tab.run(back) == dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious(visit, site, axe_violations, scheme: str) -> None:
    tab = await visit(login=False)
    await tab.prefer(scheme)
    assert await axe_violations(tab) == []
    failed = await site.create_job()
    await site.end(failed, 137, detail="killed for memory")
    await site.create_job()
    await site.create_job(
        input_data={"call_id": "call2", "post_id": "post2"},
        type="transcribing",
        runner="mattermost/calls-transcriber:v0.7.2",
    )
    site.backend.unusable = "the engine does not answer"
    await tab.run(
        "(key) => { document.getElementById('key').value = key;"
        " document.querySelector('#login-form button').click(); }",
        ADMIN_KEY,
    )
    await tab.until("() => document.querySelectorAll('#live tr').length === 2")
    await tab.until("() => !document.getElementById('refusals').hidden")
    tab.errors.clear()  # the browser tells of the 503
    assert await axe_violations(tab) == []
    await tab.resize(380, 800)
    wide = "() => document.documentElement.scrollWidth <= innerWidth"
    assert await tab.run(wide), "a phone scrolls in one direction"
    await tab.run("() => document.querySelector('#ended button').click()")
    await tab.until(f"() => ({TEXT})('log-state') === 'complete'")
    assert await axe_violations(tab) == []
    tab.errors.clear()
