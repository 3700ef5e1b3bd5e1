"""Every row of job-service.md 1 and 2, byte for byte, over real HTTP and real HTTPS.

Three services: `open` (self-registration and admin), `closed` (admin only), `none` (neither).
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

KEY, OTHER_KEY, ADMIN_KEY = "k" * 32, "o" * 32, "a" * 32
RECORDER = "mattermost/calls-recorder:v0.8.13"
TRANSCRIBER = "mattermost/calls-transcriber:v0.7.2"
JSON = "application/json"
UNKNOWN = "abcdef012345"
SERVICES = {
    "open": {
        "API_SECURITY_ENABLEADMIN": "true",
        "API_SECURITY_ADMINSECRETKEY": ADMIN_KEY,
    },
    "closed": {
        "API_SECURITY_ALLOWSELFREGISTRATION": "false",
        "API_SECURITY_ENABLEADMIN": "true",
        "API_SECURITY_ADMINSECRETKEY": ADMIN_KEY,
    },
    "none": {"API_SECURITY_ALLOWSELFREGISTRATION": "false"},
}


def basic(client: str, key: str = KEY) -> str:
    return "Basic " + base64.b64encode(f"{client}:{key}".encode()).decode()


PLUGIN, ADMIN = basic("plugin"), basic("whoever", ADMIN_KEY)


@dataclass(frozen=True)
class Row:
    """One request and its whole answer. `{…}` in path, auth and texts stand for what the fixture made."""

    request: str
    auth: str | None
    body: Any
    status: int
    answer: bytes | None
    """None: looked at elsewhere."""
    content_type: str | None = JSON
    service: str = "open"

    def __str__(self) -> str:
        shown = self.answer if self.answer is not None else b"..."
        return f"{self.service} {self.request} {self.status} {shown.decode()[:60]}"


def error(status: int, text: str) -> bytes:
    return json.dumps({"error": text, "code": str(status)}, separators=(",", ":")).encode() + b"\n"


def refused(
    request: str, auth: str | None, body: Any, status: int, text: str, service: str = "open"
) -> Row:
    return Row(request, auth, body, status, error(status, text), service=service)


def config(**changes: Any) -> dict[str, Any]:
    full = {"type": "recording", "runner": RECORDER, "max_duration_sec": 3600, "input_data": {}}
    return {name: value for name, value in (full | changes).items() if value is not ...}


UNDECODED = "failed to decode request body: "
NO_JOB = "failed to get job failed to get job: error: not found"
TOO_LOW = "actual version (0.1.0) is lower than minimum supported version (0.6.0)"
INIT = "invalid job service config: "
RUNNER = "invalid Runner value: "

VERSION = [
    Row("GET /version", None, None, 200, None),
    Row("GET /version", "nonsense", None, 200, None),
]
NOT_FOUND = [
    refused(request, PLUGIN, None, 404, "not found")
    for request in (
        *(f"{method} /version" for method in ("POST", "PUT", "DELETE", "HEAD")),
        *(
            f"{method} {path}"
            for method in ("GET", "PUT", "DELETE")
            for path in ("/register", "/unregister", "/login")
        ),
        *("PUT /jobs", "DELETE /jobs", "PATCH /jobs"),
        *(f"PUT /jobs/{UNKNOWN}", f"POST /jobs/{UNKNOWN}", f"POST /jobs/{UNKNOWN}/logs"),
        *("PUT /jobs/init", "GET /", "GET /jobs/", "GET /debug/pprof/heap", "GET /nothing"),
    )
]
REGISTER = [
    Row(
        "POST /register",
        None,
        {"clientID": "first", "authKey": KEY},
        201,
        b'{"clientID":"first","code":"201"}\n',
    ),
    refused(
        "POST /register",
        None,
        {"clientID": "first", "authKey": KEY},
        400,
        "registration failed: already registered",
    ),
    refused(
        "POST /register",
        None,
        {"clientID": "second", "authKey": "k" * 31},
        400,
        "registration failed: key not long enough",
    ),
    refused("POST /register", None, {}, 400, "registration failed: key not long enough"),
    refused(
        "POST /register",
        None,
        {"clientID": "", "authKey": KEY},
        400,
        "registration failed: error: empty key",
    ),
    *(
        Row("POST /register", None, body, 400, None)
        for body in (b"", b"[]", b"{", b'{"clientID":1}', b'"x"', b'{"clientID":"\\ud800"}')
    ),
    Row(
        "POST /register",
        ADMIN,
        {"clientID": "added", "authKey": KEY},
        201,
        b'{"clientID":"added","code":"201"}\n',
        service="closed",
    ),
    Row(
        "POST /register",
        basic("added"),
        {"clientID": "by-another", "authKey": KEY},
        201,
        b'{"clientID":"by-another","code":"201"}\n',
        service="closed",
    ),
    refused(
        "POST /register",
        None,
        b"not even JSON",
        401,
        "authentication failed: invalid auth header",
        "closed",
    ),
    refused(
        "POST /register",
        basic("unknown"),
        {"clientID": "x", "authKey": KEY},
        401,
        "authentication failed",
        "closed",
    ),
]
LOGIN = [
    Row("POST /login", None, {"clientID": "twice", "authKey": KEY}, 200, None),
    refused(
        "POST /login",
        None,
        {"clientID": "plugin", "authKey": OTHER_KEY},
        400,
        "login failed: authentication failed",
    ),
    refused(
        "POST /login",
        None,
        {"clientID": "nobody", "authKey": KEY},
        400,
        "login failed: authentication failed: error: not found",
    ),
    Row("POST /login", None, b"", 400, None),
    Row("POST /login", None, b"[]", 400, None),
]
UNREGISTER = [
    refused("POST /unregister", None, b"", 403, "unregister not enabled", "none"),
    refused(
        "POST /unregister", PLUGIN, {"clientID": "plugin"}, 403, "unregister not enabled", "none"
    ),
    refused("POST /unregister", None, b"", 401, "authentication failed: invalid auth header"),
    refused(
        "POST /unregister", basic("unknown"), {"clientID": "unknown"}, 401, "authentication failed"
    ),
    refused("POST /unregister", PLUGIN, {}, 400, "client id should not be empty"),
    refused("POST /unregister", PLUGIN, {"clientID": ""}, 400, "client id should not be empty"),
    refused("POST /unregister", PLUGIN, {"clientID": "first"}, 403, "client id not valid"),
    refused(
        "POST /unregister",
        ADMIN,
        {"clientID": "nobody"},
        400,
        "unregister failed: error: not found",
    ),
    Row("POST /unregister", PLUGIN, b"", 400, None),
    Row("POST /unregister", basic("first"), {"clientID": "first"}, 200, b'{"code":"200"}\n'),
    refused(
        "POST /unregister", basic("first"), {"clientID": "first"}, 401, "authentication failed"
    ),
]
AUTH = [
    refused(request, auth, body, 401, text)
    for request, body in (
        ("POST /jobs/init", {"Runners": [RECORDER]}),
        ("POST /jobs", config()),
        ("GET /jobs/{ended}", None),
        ("DELETE /jobs/{ended}", None),
        ("GET /jobs/{ended}/logs", None),
    )
    for auth, text in (
        (None, "authentication failed: invalid auth header"),
        ("Digest x", "authentication failed: invalid auth header"),
        ("Basic !", "authentication failed: invalid auth header"),
        ("Basic bm9jb2xvbg==", "authentication failed: invalid auth header"),
        (basic(""), "authentication failed: unauthorized"),
        (basic("plugin", OTHER_KEY), "authentication failed"),
        (basic("plugin", "short"), "unauthorized"),
        (basic("new", "k" * 31), "unauthorized"),
        ("Bearer nonsense", "authentication failed: token is invalid"),
        ("Bearer {replaced}", "authentication failed: token is invalid"),
    )
]
AUTH += [
    refused(
        "POST /jobs",
        "Bearer {expired}",
        config(),
        401,
        "authentication failed: session is expired",
    )
]
INIT_ROWS = [
    Row("POST /jobs/init", PLUGIN, {"Runners": [RECORDER, TRANSCRIBER]}, 200, b"", None),
    Row("POST /jobs/init", PLUGIN, {"runners": [RECORDER]}, 200, b"", None),
    Row("POST /jobs/init", "Bearer {token}", {"RUNNERS": [RECORDER]}, 200, b"", None),
    Row("POST /jobs/init", ADMIN, {"Runners": [RECORDER]}, 200, b"", None),
    Row("POST /jobs/init", basic("self-registered"), {"Runners": [RECORDER]}, 200, b"", None),
    refused(
        "POST /jobs/init",
        basic("self-registered", OTHER_KEY),
        {"Runners": [RECORDER]},
        401,
        "authentication failed",
    ),
    *(
        refused("POST /jobs/init", PLUGIN, body, 400, text)
        for body, text in (
            ({}, INIT + "invalid empty Runners"),
            (b"null", INIT + "invalid empty Runners"),
            ({"Runners": None}, INIT + "invalid empty Runners"),
            ({"Runners": []}, INIT + "invalid empty Runners"),
            ({"Runners": [""]}, INIT + "runner should not be empty"),
            ({"Runners": [RECORDER, "x"]}, INIT + 'failed to validate runner "x"'),
            ({"Runners": ["mattermost/calls-recorder:v0.1.0"]}, INIT + TOO_LOW),
            (b"", UNDECODED + "EOF"),
            (b"[]", UNDECODED + "should be a JSON object"),
        )
    ),
    Row(
        "POST /jobs/init",
        basic("unknown"),
        {"Runners": [RECORDER]},
        401,
        error(401, "authentication failed"),
        service="closed",
    ),
]
CREATE = [
    Row("POST /jobs", PLUGIN, config(), 200, None),
    Row("POST /jobs", PLUGIN, config(type="transcribing", runner=TRANSCRIBER), 200, None),
    *(
        refused("POST /jobs", PLUGIN, body, 400, text)
        for body, text in (
            # In the contract's order: whatever comes first is told, the rest may be as wrong as it likes.
            ({}, "invalid Type value: should not be empty"),
            (b"null", "invalid Type value: should not be empty"),
            (
                config(type="", runner="", max_duration_sec=0),
                "invalid Type value: should not be empty",
            ),
            (
                config(type="x", runner="", max_duration_sec=0),
                RUNNER + "runner should not be empty",
            ),
            (
                config(type="x", runner="y", max_duration_sec=0),
                RUNNER + 'failed to validate runner "y"',
            ),
            (config(runner=RECORDER + "@sha256:abc"), None),
            (config(runner="other/calls-recorder:v0.8.13"), None),
            (
                config(type="x", runner="mattermost/calls-recorder:v0.1.0", max_duration_sec=0),
                RUNNER + TOO_LOW,
            ),
            (
                config(type="x", max_duration_sec=0),
                "invalid MaxDurationSec value: should be positive",
            ),
            (config(max_duration_sec=-1), "invalid MaxDurationSec value: should be positive"),
            (config(type="x"), 'invalid Type value: "x"'),
            (b"", UNDECODED + "EOF"),
            (b"  \n", UNDECODED + "EOF"),
            (b"[]", UNDECODED + "should be a JSON object"),
            (b"1", UNDECODED + "should be a JSON object"),
        )
        if text is not None
    ),
    refused(
        "POST /jobs",
        PLUGIN,
        config(runner="other/calls-recorder:v0.8.13"),
        400,
        RUNNER + 'failed to validate runner "other/calls-recorder:v0.8.13"',
    ),
    Row("POST /jobs", PLUGIN, b"{", 400, None),
    Row("POST /jobs", PLUGIN, config(max_duration_sec="60"), 400, None),
    Row("POST /jobs", PLUGIN, config(input_data=[]), 400, None),
    Row("POST /jobs", PLUGIN, json.dumps(config()).encode() + b" trailing", 200, None),
]
JOBS = [
    Row("GET /jobs/{ended}", PLUGIN, None, 200, None),
    Row("GET /jobs/{ended}", ADMIN, None, 200, None),
    Row("GET /jobs/{ended}", "Bearer {token}", None, 200, None),
    Row("GET /jobs/{ended}", "basic" + PLUGIN[5:], None, 200, None),
    *(
        refused(f"{method} /jobs/{job_id}", auth, None, 404, NO_JOB)
        for method in ("GET", "DELETE")
        for job_id, auth in (
            (UNKNOWN, PLUGIN),
            ("calls-recorder-job-x7k2p", PLUGIN),
            ("{ended}", basic("somebody-else")),
        )
    ),
    refused(f"GET /jobs/{UNKNOWN.upper()}", PLUGIN, None, 404, NO_JOB),
    refused("GET /jobs/short", PLUGIN, None, 404, NO_JOB),
    refused("GET /jobs/init", PLUGIN, None, 404, NO_JOB),
    refused("DELETE /jobs/{running}", PLUGIN, None, 400, "job is running"),
    Row("GET /jobs/{ended}/logs", PLUGIN, None, 200, b"line\nlast", "text/plain; charset=utf-8"),
    *(
        refused(
            f"GET /jobs/{job_id}/logs",
            auth,
            None,
            403,
            "failed to get recording job logs: no such job",
        )
        for job_id, auth in ((UNKNOWN, PLUGIN), ("{ended}", basic("somebody-else")))
    ),
    Row("DELETE /jobs/{ended}", PLUGIN, None, 200, b"", None),
    refused("GET /jobs/{ended}", PLUGIN, None, 404, NO_JOB),
]
TOO_LARGE = [
    Row(f"POST {path}", PLUGIN, b" " * (1024 * 1024 + 1), 413, None)
    for path in ("/jobs", "/jobs/init", "/register", "/unregister", "/login")
]
TABLE = [
    *VERSION,
    *NOT_FOUND,
    *REGISTER,
    *LOGIN,
    *UNREGISTER,
    *AUTH,
    *INIT_ROWS,
    *CREATE,
    *JOBS,
    *TOO_LARGE,
]


class Doors:
    """The three services behind one scheme, and what rows refer to."""

    def __init__(self, served: dict[str, Any], names: dict[str, str]) -> None:
        self.served = served
        self._names = names

    def filled(self, text: str) -> str:
        for name, value in self._names.items():
            text = text.replace("{" + name + "}", value)
        return text


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["http", "https"])
async def doors(request, serve, tmp_path_factory) -> AsyncIterator[Doors]:
    async with AsyncExitStack() as stack:
        served = {}
        for name, environ in SERVICES.items():
            directory = tmp_path_factory.mktemp(name)
            context = serve(directory, tls=request.param == "https", **environ)
            served[name] = await stack.enter_async_context(context)
        names = await _prepare(served["open"])
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(
                "clientauth.failures.FREE", 1 << 31
            )  # a row's wrong key slows no other row
            yield Doors(served, names)


async def _prepare(service: Any) -> dict[str, str]:
    async def token(client: str) -> str:
        body = {"clientID": client, "authKey": KEY}
        return str((await service.http.post("/login", json=body)).json()["bearerToken"])

    for client in ("expires", "twice"):
        await service.http.post("/register", json={"clientID": client, "authKey": KEY})
    expired, replaced = await token("expires"), await token("twice")
    service.clock.advance(seconds=1440 * 60 + 1)
    await token("twice")
    headers = {"Authorization": PLUGIN}
    service.backend.log = b"line\nlast"
    ids = {}
    for name in ("running", "ended"):
        response = await service.http.post("/jobs", json=config(), headers=headers)
        ids[name] = response.json()["id"]
    await service.check()
    service.backend.exit(ids["ended"], 0)
    await service.check()
    return ids | {"expired": expired, "replaced": replaced, "token": await token("plugin")}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.timeout(120)
async def test_every_row_of_the_contract(doors: Doors) -> None:
    wrong = [text for row in TABLE if (text := await _differs(doors, row))]
    assert not wrong, "\n".join(wrong)


async def _differs(doors: Doors, row: Row) -> str:
    """What is not as the row says; empty when all of it is."""
    method, path = row.request.split(" ", 1)
    headers = {} if row.auth is None else {"Authorization": doors.filled(row.auth)}
    body = row.body if isinstance(row.body, bytes | None) else json.dumps(row.body).encode()
    if body is not None and not isinstance(row.body, bytes):
        headers["Content-Type"] = JSON
    response = await doors.served[row.service].http.request(
        method, doors.filled(path), headers=headers, content=body
    )
    found = []
    if response.status_code != row.status:
        found.append(f"status {response.status_code}")
    if row.answer is not None and method != "HEAD" and response.content != row.answer:
        found.append(f"body {response.content[:200]!r}")
    if response.headers.get("content-type") != row.content_type:
        found.append(f"content type {response.headers.get('content-type')}")
    if response.status_code >= 400 and method != "HEAD":
        document = response.json()
        if document.get("code") != str(response.status_code) or not document.get("error"):
            found.append(f"error form {document}")
    return f"{row}: {', '.join(found)}" if found else ""


@pytest.mark.asyncio(loop_scope="module")
async def test_version_and_job_have_the_shapes_that_clients_decode(doors: Doors) -> None:
    http = doors.served["open"].http
    version = (await http.get("/version")).json()
    assert set(version) >= {"buildDate", "buildVersion", "buildHash", "goVersion"}
    assert all(isinstance(value, str) for value in version.values())
    body = config(input_data={"auth_token": "hidden", "width": 1280, "on": True})
    response = await http.post("/jobs", json=body, headers={"Authorization": PLUGIN})
    job = response.json()
    assert set(job) == {"type", "max_duration_sec", "runner", "input_data", "id", "start_at"}
    assert job["input_data"] == {"auth_token": "***", "width": 1280, "on": True}
    assert len(job["id"]) == 12
    assert isinstance(job["start_at"], int)


@pytest.mark.asyncio(loop_scope="module")
async def test_unregistering_ends_the_bearer_session_of_the_client_alone(doors: Doors) -> None:
    http = doors.served["open"].http
    tokens = {}
    for client in ("leaves", "stays"):
        body = {"clientID": client, "authKey": KEY}
        assert (await http.post("/register", json=body)).status_code == 201
        tokens[client] = (await http.post("/login", json=body)).json()["bearerToken"]
    bearer = {name: {"Authorization": f"Bearer {token}"} for name, token in tokens.items()}
    gone = await http.post("/unregister", json={"clientID": "leaves"}, headers=bearer["leaves"])
    assert gone.content == b'{"code":"200"}\n'
    path = f"/jobs/{UNKNOWN}"
    assert (await http.get(path, headers=bearer["leaves"])).status_code == 401
    assert (await http.get(path, headers=bearer["stays"])).status_code == 404
