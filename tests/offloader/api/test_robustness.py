"""Hostile senders over a real socket: clear answers, and everybody else is served."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
import time
from typing import Any

import pytest

from offloader import http_guard

RECORDER = "mattermost/calls-recorder:v0.8.13"
HOSTILE = [
    b"",
    b"null",
    b"\x00",
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{\x00}\x00",
    b'"\\ud800"',
    b'{"\\ud800":"\\udfff"}',
    b'{"clientID":"\\ud800","authKey":"' + b"k" * 32 + b'"}',
    b'{"clientID":"a\\u0000b","authKey":"' + b"k" * 32 + b'"}',
    b'{"type":"recording","type":7,"Type":[]}',
    b'{"max_duration_sec":1e999}',
    b'{"max_duration_sec":' + b"9" * 10_000 + b"}",
    b'{"max_duration_sec":-9223372036854775809}',
    b'{"input_data":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}",
    b"[" * 200_000,
    b'{"Runners":"x"}',
    b'{"Runners":{"a":1}}',
    b'{"Runners":[1,null,{}]}',
    b'{"type":"recording","runner":"' + RECORDER.encode() + b'","max_duration_sec":1e1}',
    b'{"type":["recording"],"runner":{}}',
    b'{"auth_token":"\\u0000"}',
]


@pytest.fixture
async def served(serve, tmp_path) -> Any:
    async with serve(
        tmp_path, API_SECURITY_ENABLEADMIN="true", API_SECURITY_ADMINSECRETKEY="a" * 32
    ) as one:
        yield one


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and the rest of the connection."""
    async with asyncio.timeout(25):
        everything = await reader.read()
    head, _, body = everything.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    return int(lines[0].split()[1]), headers, body


def assert_refused(status: int, headers: dict[str, str], body: bytes, wanted: int) -> None:
    assert (status, headers["content-type"]) == (wanted, "application/json")
    assert json.loads(body)["code"] == str(wanted)


async def test_no_hostile_body_is_an_error_of_the_service(served) -> None:
    job_id = "abcdef012345"
    for path in (
        *("/jobs", "/jobs/init", "/register", "/unregister", "/login"),
        *(f"/jobs/{job_id}/stop", f"/jobs/{job_id}/republish"),
    ):
        for body in HOSTILE:
            response = await served.http.post(path, content=body, headers=served.basic("plugin"))
            shown = (path, body[:60], response.status_code)
            assert 400 <= response.status_code < 500, shown
            assert response.json()["code"] == str(response.status_code), shown


@pytest.mark.parametrize(
    "value",
    [
        "Basic " + "A" * 60_000,
        "Basic //////==",
        "Basic AAAAAAA6",
        "Bearer " + "x" * 60_000,
        "Bearer \xff",
        "Basic \xe4",
        "",
        "Basic",
        "Bearer",
    ],
)
async def test_a_strange_authorization_is_401(served, value: str) -> None:
    for path in ("/jobs", "/capacity", "/events"):
        headers = [(b"Authorization", value.encode("latin-1"))]
        response = await served.http.get(path, headers=headers)
        assert response.status_code == 401, path


async def test_a_head_that_comes_byte_by_byte_is_408(served, monkeypatch) -> None:
    monkeypatch.setattr(http_guard, "HEAD_S", 0.2)
    reader, writer = await served.connect()
    writer.write(b"GET /version HTTP/1.1\r\nHo")
    assert_refused(*await answer(reader), 408)
    writer.close()


async def test_a_body_that_comes_byte_by_byte_is_408(served, monkeypatch) -> None:
    monkeypatch.setattr(http_guard, "BODY_S", 0.2)
    reader, writer = await served.connect()
    writer.write(b'POST /login HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{"a')
    assert_refused(*await answer(reader), 408)
    writer.close()


async def test_a_connection_that_never_asks_is_closed(served, monkeypatch) -> None:
    monkeypatch.setattr(http_guard, "HEAD_S", 0.2)
    reader, writer = await served.connect()
    async with asyncio.timeout(25):
        assert await reader.read() == b""
    writer.close()


async def test_time_that_we_take_is_not_held_against_the_sender(served, monkeypatch) -> None:
    monkeypatch.setattr(http_guard, "HEAD_S", 0.1)
    monkeypatch.setattr(http_guard, "BODY_S", 0.1)
    headers = served.basic("plugin")
    body = {"type": "recording", "runner": RECORDER, "max_duration_sec": 60}
    job_id = (await served.http.post("/jobs", json=body, headers=headers)).json()["id"]
    served.backend.log = b"start"
    path = f"/jobs/{job_id}/logs?follow=1"

    async def end_it() -> None:
        await asyncio.sleep(0.4)  # four times as long as a head or a body may take
        served.backend.log += b" end"
        served.backend.exit(job_id, 0)

    ending = asyncio.create_task(end_it())
    response = await served.http.get(path, headers=headers)
    await ending
    assert response.text == "start end"
    # The kept connection may rest, too.
    await asyncio.sleep(0.3)
    assert (await served.http.get("/version")).status_code == 200


async def test_requests_in_one_packet_are_all_answered(served) -> None:
    reader, writer = await served.connect()
    one = b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
    writer.write(one + one + one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    async with asyncio.timeout(25):
        everything = await reader.read()
    assert everything.count(b'{"status":"ok"}') == 3
    writer.close()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),  # TLS to the plain port
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"POST /jobs HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /jobs HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 100_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000, 431),
    ],
)
async def test_what_is_no_request_is_refused_in_the_services_form(served, head, status) -> None:
    reader, writer = await served.connect()
    writer.write(head)
    got, headers, body = await answer(reader)
    writer.close()
    if head.startswith(b"POST"):  # its head is fine, so the route may be quicker than the parser
        assert got in (400, 401)
    else:
        assert_refused(got, headers, body, status)


async def test_an_address_has_a_limited_number_of_connections(served, monkeypatch) -> None:
    await served.http.aclose()
    monkeypatch.setattr(http_guard, "MOST_OF_ONE_ADDRESS", 3)
    while http_guard.GuardedProtocol._of_address:
        await asyncio.sleep(0.01)
    held = [await served.connect() for _ in range(3)]
    for reader, writer in held:
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
    reader, writer = await served.connect()
    assert_refused(*await answer(reader), 503)
    writer.close()
    held[0][1].close()
    await held[0][1].wait_closed()
    while sum(http_guard.GuardedProtocol._of_address.values()) > 2:
        await asyncio.sleep(0.01)
    reader, writer = await served.connect()
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert (await answer(reader))[0] == 200
    for _, open_writer in (*held[1:], (reader, writer)):
        open_writer.close()


async def test_hundreds_of_wrong_logins_leave_the_service_responsive(served, monkeypatch) -> None:
    monkeypatch.setattr("clientauth.failures.LONGEST_S", 0.1)
    body = {"clientID": "plugin", "authKey": "k" * 32}
    assert (await served.http.post("/register", json=body)).status_code == 201
    known = served.basic("plugin")
    assert (await served.http.get("/jobs", headers=known)).status_code == 200
    statuses: list[int] = []

    async def guess(number: int) -> None:
        (authorization,) = served.basic("plugin", f"{number:032d}").values()
        reader, writer = await served.connect()
        head = f"GET /jobs HTTP/1.1\r\nHost: h\r\nAuthorization: {authorization}\r\n"
        writer.write(head.encode() + b"Connection: close\r\n\r\n")
        statuses.append(int((await reader.read()).split()[1]))
        writer.close()

    async def attack() -> None:
        await asyncio.gather(*(guess(number) for number in range(300)))

    # In a loop of its own. Time is measured by the benchmark; here everybody has to be served meanwhile.
    attacking = asyncio.create_task(asyncio.to_thread(asyncio.run, attack()))
    served_meanwhile = 0
    while not attacking.done():
        assert (await served.http.get("/version")).status_code == 200
        assert (await served.http.get("/jobs", headers=known)).status_code == 200
        served_meanwhile += 1
        await asyncio.sleep(0.1)
    await attacking
    assert len(statuses) == 300
    assert set(statuses) == {401, 429}
    assert served_meanwhile > 2


async def test_a_handshake_does_not_wait_for_a_busy_loop(serve, tmp_path, certificate) -> None:
    async with serve(tmp_path, tls=True) as served:
        done = threading.Event()

        def shake_hands() -> None:
            context = ssl.create_default_context(cafile=certificate.cert_file)
            with socket.create_connection(served.address, timeout=25) as plain:
                with context.wrap_socket(plain, server_hostname="127.0.0.1"):
                    done.set()

        thread = threading.Thread(target=shake_hands)
        thread.start()
        give_up_s = time.perf_counter() + 20
        while not done.is_set() and time.perf_counter() < give_up_s:
            sum(range(1000))
        shaken = done.is_set()
        await asyncio.to_thread(thread.join, 5)
        assert shaken, "no handshake while the loop was busy"


async def test_an_upload_over_tls_arrives_whole(serve, tmp_path) -> None:
    async with serve(tmp_path, tls=True) as served:
        padding = " " * 1_000_000
        body = json.dumps({"Runners": [RECORDER]}) + padding
        headers = served.basic("plugin")
        response = await served.http.post("/jobs/init", content=body, headers=headers)
        assert response.status_code == 200
        served.backend.files = {"big": bytes(range(256)) * 20_000}
        job = {"type": "recording", "runner": RECORDER, "max_duration_sec": 60}
        job_id = (await served.http.post("/jobs", json=job, headers=headers)).json()["id"]
        response = await served.http.get(f"/jobs/{job_id}/artifacts/big", headers=headers)
        assert response.content == served.backend.files["big"]
