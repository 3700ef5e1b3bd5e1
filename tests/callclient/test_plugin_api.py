"""The HTTP client of jobs and bots: what goes over the wire, and what a failure tells (calls-plugin.md 5)."""

from __future__ import annotations

import asyncio
import datetime
import gzip
import ipaddress
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from callclient.bounded_answer import read_answer
from callclient.plugin_api import ApiError, PluginApi, UploadSession, UserProfile

TOKEN = "t0ken" + "x" * 21
P = "/plugins/com.mattermost.calls"


@dataclass(frozen=True)
class Request:
    """One request as it came over the wire."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    """Answers every request with `answer`, or hangs up, or says nothing; keeps what it got."""

    url: str = ""
    answer: bytes = b""
    requests: list[Request] = field(default_factory=list)
    never: asyncio.Event = field(default_factory=asyncio.Event)
    hang: bool = False
    stays_open: bool = False
    """It neither closes nor says more after its answer."""

    def says(
        self, body: object = b"", *, status: int = 200, content_type: str = "", **headers: str
    ) -> None:
        """The answer from now on; an object becomes JSON, without any content type unless named."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} Whatever", "Connection: close"]
        if status != 204:
            lines.append(f"Content-Length: {len(raw)}")
        if content_type:
            lines.append(f"Content-Type: {content_type}")
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.answer = "\r\n".join([*lines, "", ""]).encode() + raw

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await _read(reader))
            if self.hang:
                await self.never.wait()
            writer.write(self.answer)
            await writer.drain()
            if self.stays_open:
                await self.never.wait()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @property
    def only(self) -> Request:
        [request] = self.requests
        return request


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, path, _ = head[0].split(" ")
    pairs = (line.partition(": ") for line in head[1:] if line)
    headers = {name.lower(): value for name, _, value in pairs}
    body = b""
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, path, headers, body)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@asynccontextmanager
async def _serving(context: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server()
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0, ssl=context)
    port = listener.sockets[0].getsockname()[1]
    server.url = f"{'https' if context else 'http'}://127.0.0.1:{port}"
    async with listener:
        yield server
        server.never.set()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with _serving() as server:
        yield server


@pytest.fixture
async def api(server: Server) -> AsyncIterator[PluginApi]:
    async with PluginApi(site_url=server.url, auth_token=TOKEN) as api:
        yield api


async def _failure(request: Awaitable[object]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await request
    assert TOKEN not in f"{caught.value} {caught.value!r}"
    return caught.value


# every route

Call = Callable[[PluginApi], Awaitable[object]]
SUCCESS = {"message": "success", "status_code": 200}
USER = {"id": "u1", "username": "ada", "first_name": "Ada", "last_name": "Lovelace", "email": "x"}
ADA = UserProfile("u1", "ada", "Ada", "Lovelace")
UPLOAD = {"id": "up1", "file_size": 12, "file_offset": 5, "type": "attachment"}

ROUTES: list[tuple[Call, object, str, str, object, object]] = [
    # the call, the server's answer, method, path, body, result
    (
        lambda api: api.filename("c1"),
        {"filename": "Call_x"},
        "GET",
        f"{P}/bot/calls/c1/filename",
        None,
        "Call_x",
    ),
    (
        lambda api: api.profile("c1", "s1"),
        USER,
        "GET",
        f"{P}/bot/calls/c1/sessions/s1/profile",
        None,
        ADA,
    ),
    (
        lambda api: api.users_by_ids(["u1", "u2"]),
        [USER],
        "POST",
        "/api/v4/users/ids",
        ["u1", "u2"],
        [ADA],
    ),
    (
        lambda api: api.user_image("u1"),
        b"\x89PNG",
        "GET",
        f"{P}/bot/users/u1/image",
        None,
        b"\x89PNG",
    ),
    (
        lambda api: api.create_upload("c1", filename="a.mp4", file_size_bytes=12),
        UPLOAD,
        "POST",
        f"{P}/bot/uploads",
        {"channel_id": "c1", "filename": "a.mp4", "file_size": 12},
        UploadSession("up1", 12, 5),
    ),
    (
        lambda api: api.get_upload("up1"),
        UPLOAD,
        "GET",
        f"{P}/bot/uploads/up1",
        None,
        UploadSession("up1", 12, 5),
    ),
    (
        lambda api: api.publish_recording("c1", job_id="j1", post_id="p1", file_ids=["f1"]),
        SUCCESS,
        "POST",
        f"{P}/bot/calls/c1/recordings",
        {"JobID": "j1", "PostID": "p1", "FileIDs": ["f1"]},
        None,
    ),
    (
        lambda api: api.publish_transcription(
            "c1", job_id="j1", post_id="p1", language="en", file_ids=["vtt", "txt"]
        ),
        SUCCESS,
        "POST",
        f"{P}/bot/calls/c1/transcriptions",
        {
            "JobID": "j1",
            "PostID": "p1",
            "Transcriptions": [{"Title": "", "Language": "en", "FileIDs": ["vtt", "txt"]}],
        },
        None,
    ),
    (
        lambda api: api.publish_transcription(
            "c1", job_id="j1", post_id="p1", language="de", file_ids=["v", "t"], title="Weekly"
        ),
        SUCCESS,
        "POST",
        f"{P}/bot/calls/c1/transcriptions",
        {
            "JobID": "j1",
            "PostID": "p1",
            "Transcriptions": [{"Title": "Weekly", "Language": "de", "FileIDs": ["v", "t"]}],
        },
        None,
    ),
    (
        lambda api: api.report_status("c1", "j1", job_type="recording", status="started"),
        SUCCESS,
        "POST",
        f"{P}/bot/calls/c1/jobs/j1/status",
        {"JobType": "recording", "Status": "started"},
        None,
    ),
    (
        lambda api: api.report_status(
            "c1", "j1", job_type="transcribing", status="failed", error="cannot reach the call"
        ),
        SUCCESS,
        "POST",
        f"{P}/bot/calls/c1/jobs/j1/status",
        {"JobType": "transcribing", "Status": "failed", "omitempty": "cannot reach the call"},
        None,
    ),
    (
        lambda api: api.start_recording("c1"),
        {"type": "recording"},
        "POST",
        f"{P}/calls/c1/recording/start",
        None,
        None,
    ),
    (
        lambda api: api.stop_recording("c1"),
        {"type": "recording"},
        "POST",
        f"{P}/calls/c1/recording/stop",
        None,
        None,
    ),
]


@pytest.mark.parametrize(("call", "answer", "method", "path", "body", "result"), ROUTES)
async def test_each_call_is_one_request_with_the_token_and_reads_its_answer(
    server: Server,
    api: PluginApi,
    call: Call,
    answer: object,
    method: str,
    path: str,
    body: object,
    result: object,
) -> None:
    server.says(answer)  # without a JSON content type (trap 52)
    assert await call(api) == result
    request = server.only
    assert (request.method, request.path) == (method, path)
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    if body is None:
        assert request.body == b""
    else:
        assert request.json == body
        assert request.headers["content-type"] == "application/json"


async def test_each_call_fails_with_an_api_error_that_names_method_route_and_status(
    server: Server, api: PluginApi
) -> None:
    server.says({"message": f"secret of the body {TOKEN}", "status_code": 403}, status=403)
    for call, _, method, path, _, _ in ROUTES:
        error = await _failure(call(api))
        assert str(error) == f"{method} {path}: refused with HTTP 403"
        assert (error.status, error.retryable) == (403, False)


# uploads


async def test_upload_data_is_sent_raw_with_its_length_and_answered_with_the_file(
    server: Server, api: PluginApi
) -> None:
    server.says({"id": "file1", "name": "a.mp4"})
    assert await api.send_upload_data("up1", b"\x00\xffdata", length_bytes=6) == "file1"
    request = server.only
    assert (request.method, request.path) == ("POST", f"{P}/bot/uploads/up1")
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["content-length"] == "6"
    assert request.body == b"\x00\xffdata"


async def test_upload_data_may_be_a_stream_of_known_length(server: Server, api: PluginApi) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for part in (b"one", b"two"):
            yield part

    server.says({"id": "file1"})
    assert await api.send_upload_data("up1", parts(), length_bytes=6) == "file1"
    assert server.only.headers["content-length"] == "6"
    assert "transfer-encoding" not in server.only.headers
    assert server.only.body == b"onetwo"


async def test_204_says_that_more_is_wanted(server: Server, api: PluginApi) -> None:
    server.says(status=204)
    assert await api.send_upload_data("up1", b"data", length_bytes=4) is None


async def test_a_refused_part_tells_the_servers_reason_apart_from_the_text(
    server: Server, api: PluginApi
) -> None:
    server.says({"id": "x", "message": "first part is too small", "status_code": 400}, status=400)
    error = await _failure(api.send_upload_data("up1", b"data", length_bytes=4))
    assert (error.status, error.retryable, error.reason) == (400, False, "first part is too small")
    assert "too small" not in str(error)


@pytest.mark.parametrize("answer", [{}, {"id": ""}, {"id": 7}, [], None])
@pytest.mark.documents("answers-that-are-not-mattermosts/5")
async def test_a_complete_upload_without_a_file_id_is_an_error(
    server: Server, api: PluginApi, answer: object, documented: Any
) -> None:
    server.says(answer)
    error = await _failure(api.send_upload_data("up1", b"data", length_bytes=4))
    assert (error.status, error.retryable) == (200, False)
    documented("answers-that-are-not-mattermosts/5", str(error))


# answers that are not as expected


@pytest.mark.parametrize("answer", [{}, {"filename": ""}, {"filename": None}, [], "x"])
@pytest.mark.documents("answers-that-are-not-mattermosts/2")
async def test_an_answer_without_a_filename_is_an_error(
    server: Server, api: PluginApi, answer: object, documented: Any
) -> None:
    server.says(answer)
    error = await _failure(api.filename("c1"))
    assert (error.status, error.retryable) == (200, False)
    documented("answers-that-are-not-mattermosts/2", str(error))


@pytest.mark.documents(
    "answers-that-are-not-mattermosts/3",
    "answers-that-are-not-mattermosts/4",
    "answers-that-are-not-mattermosts/6",
)
async def test_answers_without_what_was_asked_for_are_told_apart(
    server: Server, api: PluginApi, documented: Any
) -> None:
    for number, answer in ((3, {}), (4, UPLOAD | {"file_size": "large"})):
        server.says(answer)
        documented(
            f"answers-that-are-not-mattermosts/{number}", str(await _failure(api.get_upload("up1")))
        )
    server.says([])
    documented("answers-that-are-not-mattermosts/6", str(await _failure(api.post_of_file("f1"))))


@pytest.mark.parametrize(
    "answer",
    [
        {},
        UPLOAD | {"id": None},
        UPLOAD | {"id": ""},
        UPLOAD | {"file_size": "large"},
        UPLOAD | {"file_offset": None},
        [],
        None,
    ],
)
async def test_an_upload_session_without_its_id_or_numbers_is_an_error(
    server: Server, api: PluginApi, answer: object
) -> None:
    server.says(answer)
    for request in (
        api.get_upload("up1"),
        api.create_upload("c1", filename="a", file_size_bytes=1),
    ):
        error = await _failure(request)
        assert (error.status, error.retryable) == (200, False)


@pytest.mark.parametrize("answer", [b"<html>Sign in</html>", b"", b"{", b"\xff\xfe"])
@pytest.mark.documents("answers-that-are-not-mattermosts")
async def test_an_answer_that_is_not_json_is_an_error_without_its_content(
    server: Server, api: PluginApi, answer: bytes, documented: Any
) -> None:
    server.says(answer, content_type="application/json")
    for request in (
        api.filename("c1"),
        api.profile("c1", "s1"),
        api.users_by_ids(["u1"]),
        api.get_upload("up1"),
        api.send_upload_data("up1", b"x", length_bytes=1),
    ):
        error = await _failure(request)
        assert (error.status, error.retryable) == (200, False)
        documented("answers-that-are-not-mattermosts", str(error))
        assert "Sign in" not in str(error)


@pytest.mark.documents("answers-that-are-not-mattermosts/7")
async def test_of_an_answer_that_is_too_large_no_more_is_read_also_when_it_is_packed(
    server: Server, api: PluginApi, documented: Any
) -> None:
    server.says(bytes(4 << 20))
    assert len(await api.user_image("u1")) == 4 << 20
    server.says(bytes((4 << 20) + 1))
    error = await _failure(api.user_image("u1"))
    documented("answers-that-are-not-mattermosts/7", str(error))
    assert (error.status, error.retryable) == (200, False)
    server.says(gzip.compress(bytes(17 << 20)), status=200, **{"Content-Encoding": "gzip"})
    error = await _failure(api.users_by_ids(["u1"]))
    assert str(error).endswith("the answer has more than 16 MiB")
    server.says(gzip.compress(b"[]"), status=200, **{"Content-Encoding": "gzip"})
    assert await api.users_by_ids(["u1"]) == []


async def test_names_may_be_empty_missing_or_null(server: Server, api: PluginApi) -> None:
    server.says({"id": "u1", "username": "ada", "first_name": None, "last_name": ""})
    assert await api.profile("c1", "s1") == UserProfile("u1", "ada", "", "")
    server.says([{"id": "u1"}])
    assert await api.users_by_ids(["u1"]) == [UserProfile("u1", "", "", "")]


async def test_an_answer_of_null_to_a_question_for_users_is_nobody(
    server: Server, api: PluginApi
) -> None:
    server.says(None)
    assert await api.users_by_ids(["u1"]) == []


# failures


@pytest.mark.parametrize(
    ("status", "retryable"),
    [
        (400, False),
        (401, False),
        (403, False),
        (404, False),
        (408, True),
        (413, False),
        (425, True),
        (429, True),
        (500, True),
        (501, False),
        (502, True),
        (503, True),
        (504, True),
    ],
)
async def test_the_status_decides_whether_trying_again_may_help(
    server: Server, api: PluginApi, status: int, retryable: bool
) -> None:
    server.says({"message": "no call ongoing", "status_code": status}, status=status)
    error = await _failure(api.report_status("c1", "j1", job_type="recording", status="started"))
    assert (error.status, error.retryable) == (status, retryable)
    assert error.reason == "no call ongoing"
    assert not error.surely_not_arrived  # it was answered
    assert len(server.requests) == 1  # and is not repeated here


LONG = (17 << 20) + 1
"""More than is read of any answer."""


@pytest.mark.parametrize(("status", "retryable"), [(500, True), (503, True), (403, False)])
@pytest.mark.parametrize("packed", [False, True])
async def test_the_status_decides_however_long_the_body_of_a_refusal_is(
    server: Server, api: PluginApi, status: int, retryable: bool, packed: bool
) -> None:
    body = b"busy" + bytes(LONG)
    for request in (api.filename("c1"), api.user_image("u1")):
        if packed:
            server.says(
                gzip.compress(body),
                status=status,
                **{"Content-Encoding": "gzip", "Retry-After": "7"},
            )
        else:
            server.says(body, status=status, **{"Retry-After": "7"})
        error = await _failure(request)
        assert str(error).endswith(f"refused with HTTP {status}")
        assert (error.status, error.retryable, error.retry_after_s) == (status, retryable, 7.0)
        assert error.reason.startswith("busy")
        assert len(error.reason) == 200


@pytest.mark.parametrize("status", [307, 403, 503])
async def test_a_refusal_that_never_ends_is_left_after_64_kib(status: int) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1 << 10
            yield bytes(1 << 10)

    response = httpx.Response(status, content=endless(), request=httpx.Request("GET", "http://s"))
    answer = await read_answer(response, most_bytes=16 << 20)
    assert (answer.status_code, len(answer.content), sent) == (status, 64 << 10, 64 << 10)


@pytest.mark.parametrize(("status", "retryable"), [(503, True), (403, False)])
@pytest.mark.parametrize("ends", ["breaks off", "is silent", "is not packed as it says"])
async def test_a_refusal_counts_though_its_body_does_not_arrive(
    server: Server, status: int, retryable: bool, ends: str
) -> None:
    async with PluginApi(site_url=server.url, auth_token=TOKEN, timeout_s=1.5) as api:
        lines = [f"HTTP/1.1 {status} Whatever", "Content-Length: 100"]
        lines += ["Content-Encoding: gzip"] * (ends == "is not packed as it says")
        server.answer = "\r\n".join([*lines, "", "busy"]).encode()
        server.stays_open = ends == "is silent"
        error = await _failure(api.filename("c1"))
    assert (error.status, error.retryable) == (status, retryable)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"Unauthorized\n", "Unauthorized\n"),
        ({"message": "x" * 500}, "x" * 200),
        (b"y" * 500, "y" * 200),
        ({"error": "other"}, ""),
        ({"message": None}, ""),
        ([], ""),
        (b"", ""),
    ],
)
async def test_the_reason_is_the_servers_text_and_not_too_much_of_it(
    server: Server, api: PluginApi, body: object, reason: str
) -> None:
    server.says(body, status=400)
    assert (await _failure(api.filename("c1"))).reason == reason


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(server: Server, api: PluginApi, status: int) -> None:
    async with _serving() as other:
        other.says({"filename": "stolen"})
        for target in (f"{other.url}/x", f"{server.url}/y", "/z"):
            server.says(status=status, Location=target)
            error = await _failure(api.filename("c1"))
            assert (error.status, error.retryable) == (status, False)
            error = await _failure(api.publish_recording("c", job_id="j", post_id="p", file_ids=[]))
            assert error.status == status
        assert other.requests == []
        assert len(server.requests) == 6


@pytest.mark.documents("mattermost-cannot-be-reached-by-http")
async def test_a_server_that_is_not_there_was_surely_not_reached(
    unused_tcp_port: int, documented: Any
) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}"
    async with PluginApi(site_url=url, auth_token=TOKEN) as api:
        error = await _failure(api.publish_recording("c", job_id="j", post_id="p", file_ids=["f"]))
    assert (error.status, error.retryable, error.surely_not_arrived) == (None, True, True)
    assert error.reason == ""
    documented("mattermost-cannot-be-reached-by-http", str(error))


@pytest.mark.documents("mattermost-cannot-be-reached-by-http/2")
async def test_a_request_without_an_answer_may_have_arrived(
    server: Server, api: PluginApi, documented: Any
) -> None:
    server.answer = b""  # it is read, and then the connection closed
    error = await _failure(api.publish_recording("c", job_id="j", post_id="p", file_ids=["f"]))
    assert (error.status, error.retryable, error.surely_not_arrived) == (None, True, False)
    assert len(server.requests) == 1
    documented("mattermost-cannot-be-reached-by-http/2", str(error))


async def test_an_answer_that_breaks_off_may_have_been_a_success(
    server: Server, api: PluginApi
) -> None:
    server.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"
    error = await _failure(api.publish_recording("c", job_id="j", post_id="p", file_ids=["f"]))
    assert (error.status, error.retryable, error.surely_not_arrived) == (None, True, False)


async def test_a_server_that_says_nothing_is_given_up_after_the_time_out(server: Server) -> None:
    server.hang = True
    async with PluginApi(site_url=server.url, auth_token=TOKEN, timeout_s=0.2) as api:
        error = await _failure(api.filename("c1"))
    assert (error.status, error.retryable, error.surely_not_arrived) == (None, True, False)
    assert "ReadTimeout" in str(error)
    assert len(server.requests) == 1


async def test_a_post_has_more_time_because_asking_twice_may_make_two(server: Server) -> None:
    server.hang = True
    async with PluginApi(site_url=server.url, auth_token=TOKEN, timeout_s=0.5) as api:
        posting = [
            asyncio.create_task(
                api.publish_recording("c", job_id="j", post_id="p", file_ids=["f"])
            ),
            asyncio.create_task(
                api.publish_transcription(
                    "c", job_id="j", post_id="p", language="en", file_ids=["v", "t"]
                )
            ),
        ]
        await _failure(api.filename("c1"))  # as long as others are given
        await _failure(api.filename("c1"))
        assert not any(post.done() for post in posting)
        server.never.set()
        server.says({"message": "success"})
        await asyncio.gather(*posting)


async def test_upload_data_has_more_time_than_other_requests(server: Server) -> None:
    server.hang = True
    server.says({"id": "file1"})
    async with PluginApi(site_url=server.url, auth_token=TOKEN, timeout_s=0.5) as api:
        sending = asyncio.create_task(api.send_upload_data("up1", b"x", length_bytes=1))
        await _failure(api.filename("c1"))  # as long as others are given
        await _failure(api.filename("c1"))
        assert not sending.done()
        server.never.set()
        assert await sending == "file1"


async def test_a_client_can_be_closed_twice(server: Server) -> None:
    api = PluginApi(site_url=server.url, auth_token=TOKEN)
    await api.aclose()
    await api.aclose()


# certificates


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that only its own file vouches for, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    directory = tmp_path_factory.mktemp("certificate")
    cert_file, key_file = directory / "cert.pem", directory / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_file, key_file


async def test_a_site_with_its_own_authority_is_trusted_by_its_file_only(
    certificate: tuple[Path, Path],
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    async with _serving(context) as server:
        server.says({"filename": "Call_x"})
        async with PluginApi(
            site_url=server.url, auth_token=TOKEN, ca_file=certificate[0]
        ) as trusting:
            assert await trusting.filename("c1") == "Call_x"
        async with PluginApi(site_url=server.url, auth_token=TOKEN) as doubting:
            error = await _failure(doubting.filename("c1"))
        assert (error.status, error.surely_not_arrived) == (None, True)
        assert len(server.requests) == 1


def test_an_authority_that_cannot_be_read_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        PluginApi(site_url="https://site", auth_token=TOKEN, ca_file=tmp_path / "missing.pem")
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    with pytest.raises(OSError):
        PluginApi(site_url="https://site", auth_token=TOKEN, ca_file=broken)
