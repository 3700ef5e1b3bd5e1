"""What a hostile client asks for, one request at a time, and how each has to be refused."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from testbed.hostile import CLIENT, KEY, RUNNER, Hostile, job_wish
from testbed.hostile_traps import Traps, steering_variables

_KEY: Final = "replayed-once-only"
_UNKNOWN_JOB: Final = "5f0c3ba1d29e"
_METADATA: Final = (
    "http://169.254.169.254",
    "http://169.254.169.254:80/latest/meta-data",
    "http://[::ffff:169.254.169.254]",
    "http://[fe80::1]",
    "http://[fd00:ec2::254]",
    "http://2852039166",
    "http://0xA9FEA9FE",
    "http://0251.0376.0251.0376",
    "http://169.254.43518",
    "http://[64:ff9b::a9fe:a9fe]",
    "http://169.254.169.254.",
    "http://user:secret@169.254.169.254",
    "http://100.100.100.200",
    "http://0.0.0.0",
)
_TRAVERSALS: Final = (
    "../../../../../../etc/passwd",
    "..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "..%252f..%252fetc%252fpasswd",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "....//....//etc/passwd",
    "..\\..\\etc\\passwd",
    "data/../../job.log",
    "%00",
    "shim.json%00.mp4",
)


@dataclass(frozen=True, slots=True)
class Victim:
    """The other client, as far as a bad one could know of it."""

    client_id: str
    jobs: Sequence[str]
    call_id: str
    recording_id: str


@dataclass(frozen=True, slots=True)
class OwnJob:
    """What the hostile client was given: a job in a cage."""

    job_id: str
    document: dict[str, Any]
    key: str
    """The Idempotency-Key of its request."""


async def start_caged_job(hostile: Hostile, traps: Traps, *, site_url: str) -> OwnJob:
    """A job that is let in, with everything in its input that steers programs; sizes beyond all ceilings.

    Raises:
        AssertionError: it was not let in, so that nothing would be tried.
    """
    wish = job_wish(
        site_url=site_url,
        width=100_000,
        height=100_000,
        frame_rate=1000,
        **steering_variables(traps),
    )
    wish["max_duration_sec"] = 2_000_000_000
    key = {"Idempotency-Key": _KEY}
    answer = await hostile.ask("POST", "/jobs", document=wish, headers=key)
    assert answer.status == 200, answer
    document = answer.json()
    return OwnJob(document["id"], document, _KEY)


async def reach_inner_addresses(hostile: Hostile, traps: Traps, *, loopback_refused: bool) -> None:
    """SSRF: by the site, by speech services, by names of runners."""
    addresses = [*_METADATA]
    if traps.inner.is_link_local:
        addresses.append(f"{traps.inner.url}/x")
    if loopback_refused:
        addresses += [traps.inner.url, f"http://127.0.0.1:{hostile.port}", "http://localhost"]
    for address in addresses:
        wish = job_wish(site_url=address)
        await hostile.tries("SSRF", address, (400,), "POST", "/jobs", document=wish)
    site_url = traps.site.url
    speech: list[dict[str, Any]] = [
        {"openai_base_url": traps.inner.url},
        {"AZURE_SPEECH_ENDPOINT": "http://169.254.169.254"},
        {"transcribe_api_options": {"OPENAI_BASE_URL": traps.inner.url}},
        {"transcribe_api_options": f'{{"AZURE_SPEECH_ENDPOINT": "{traps.inner.url}"}}'},
        {"openai_base_url": "https://api.openai.com@127.0.0.1"},
        {"openai_base_url": "https://api.openai.com.evil.example"},
    ]
    for options in speech:
        wish = job_wish(site_url=site_url, **options)
        wish |= {"type": "transcribing", "runner": RUNNER.replace("recorder", "transcriber")}
        await hostile.tries("SSRF", str(options), (400,), "POST", "/jobs", document=wish)


async def leave_the_directory(hostile: Hostile, own: OwnJob, *, site_url: str) -> None:
    """Traversal by names of files, jobs, models, runners and pages."""
    for name in _TRAVERSALS:
        path = f"/jobs/{own.job_id}/artifacts/{name}"
        await hostile.tries("traversal", path, (400, 404, 500), "GET", path)
        for route in (f"/jobs/{name}", f"/jobs/{name}/logs", f"/page/{name}"):
            await hostile.tries("traversal", route, (400, 403, 404), "GET", route)
    for model in ("../../etc", "/etc", "base/../../x", ".", "a\\b"):
        wish = job_wish(site_url=site_url, model_size=model)
        await hostile.tries("traversal", model, (400,), "POST", "/jobs", document=wish)
    for runner in (
        "mattermost/calls-recorder:v0.8.13 --privileged",
        "../../calls-recorder:v0.8.13",
        "/bin/sh",
        "mattermost/calls-recorder:v0.8.13\n",
    ):
        wish = job_wish(site_url=site_url) | {"runner": runner}
        await hostile.tries("traversal", runner, (400,), "POST", "/jobs", document=wish)


async def touch_others(hostile: Hostile, victim: Victim) -> None:
    """Another client's jobs are as if they were not there, word for word; so is its name."""
    for job_id in victim.jobs:
        for method, route in (
            ("GET", ""),
            ("GET", "?details=1"),
            ("GET", "/logs"),
            ("GET", "/logs?follow=1"),
            ("GET", "/artifacts"),
            ("GET", "/artifacts/job.json"),
            ("POST", "/stop"),
            ("POST", "/republish"),
            ("POST", "/retranscribe"),
            ("DELETE", ""),
        ):
            unknown = await hostile.ask(method, f"/jobs/{_UNKNOWN_JOB}{route}")
            path = f"/jobs/{job_id}{route}"
            wanted = (unknown.status,) if unknown.status in (403, 404) else ()
            answer = await hostile.tries("others' jobs", f"{method} {path}", wanted, method, path)
            same = answer.body == unknown.body
            hostile.note(
                "others' jobs", f"{path}, word for word", (answer.status,) if same else (), answer
            )
    listed = (await hostile.ask("GET", "/jobs?limit=200")).json()["jobs"]
    assert not {job["id"] for job in listed} & set(victim.jobs), "another client's jobs are listed"
    name = {"clientID": victim.client_id, "authKey": KEY}
    for path in ("/register", "/unregister", "/login"):
        await hostile.tries(
            "others' jobs", f"{path} as another", (400, 401, 403), "POST", path, document=name
        )
    for method, path in (
        ("GET", "/admin/status"),
        ("GET", "/admin/clients"),
        ("POST", "/admin/drain"),
        ("POST", "/admin/clients/rotate"),
        ("POST", "/admin/clients/adopt"),
        ("GET", "/page/api/jobs"),
        ("POST", "/page/login"),
        ("POST", f"/page/api/jobs/{victim.jobs[0]}/stop"),
    ):
        await hostile.tries("others' jobs", path, (401, 403, 404), method, path, document=name)
    other = {"clientID": f"{CLIENT}-{secrets.token_hex(4)}", "authKey": KEY}
    await hostile.tries(
        "others' jobs", "another name", (403,), "POST", "/register", document=other, key=None
    )


async def replay(hostile: Hostile, victim: Victim, own: OwnJob, *, site_url: str) -> None:
    """What was said once is said again: keys of requests, ids of calls and results, tokens of old logins."""
    headers = {"Idempotency-Key": own.key}
    other = job_wish(site_url=site_url, call_id="r" * 26)
    await hostile.tries(
        "replayed ids", "a key", (422,), "POST", "/jobs", document=other, headers=headers
    )
    first = job_wish(site_url=site_url, call_id=victim.call_id, recording_id=victim.recording_id)
    # Another client's call is no call of one's own: it takes a place of this client's, which are taken.
    await hostile.tries(
        "replayed ids", "another's call", (500, 429), "POST", "/jobs", document=first
    )
    for token in ("x" * 43, "", "undefined", "null"):
        headers = {"Authorization": f"Bearer {token}"}
        await hostile.tries(
            "replayed ids", f"bearer {token}", (401,), "GET", "/jobs", headers=headers, key=None
        )
    for cookie in ("guessed", "", "x" * 4000):
        headers = {"Cookie": f"calls_offloader_page={cookie}"}
        await hostile.tries(
            "replayed ids", "cookie", (401, 404), "GET", "/page/api/jobs", headers=headers, key=None
        )
