"""What the job service is told: HTTP bodies, queries, headers, settings, workers, logs of jobs."""

from __future__ import annotations

import atexit
import base64
import contextlib
import ipaddress
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.requests import Request

from clientauth import http as client_http
from clientauth import service as client_service
from clientauth.credentials import basic_credentials
from foundation.layered_config import ConfigError
from offloader import figures, retranscription_steps
from offloader.api import queries
from offloader.api.bodies import parse_json, read_model
from offloader.api.errors import BadRequest
from offloader.api.proxies import TrustedProxies
from offloader.api.ranges import Unsatisfiable, wanted_range
from offloader.api.schemas import InitRequest, JobCreate, RepublishRequest, RetranscribeRequest
from offloader.audit_file import entry_of
from offloader.backends.environment import job_environment
from offloader.backends.kubernetes import observation as kubernetes
from offloader.backends.remote import wire
from offloader.bearer import bearer_token
from offloader.errors import InvalidCursor, InvalidJob, LaunchFailed
from offloader.job_wish import check_wish
from offloader.secrets import shown
from offloader.setting_keys import KEYS
from offloader.settings import read_settings
from offloader.store.cursor import Cursor
from offloader.store.secret_key import Cipher
from offloader.worker.transcribing_messages import TrackOffer
from sfu.setting_keys import KEYS as SFU_KEYS
from sfu.settings import load_settings as load_sfu_settings
from tests.fuzz.loop import LOOP
from tests.fuzz.target import Target, check_text

_folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
atexit.register(shutil.rmtree, _folder, ignore_errors=True)
_FILE = _folder / "settings.toml"
_CIPHER = Cipher("k" * 32, "o" * 32)
_SETTINGS = read_settings(_folder / "none", {"HOME": "/nonexistent"}).settings.jobs
_MODELS: tuple[type[BaseModel], ...] = (
    InitRequest,
    JobCreate,
    RepublishRequest,
    RetranscribeRequest,
)
_MOST_TEXT = 4096
_ENVIRONMENT = [key.env for key in (*KEYS.values(), *SFU_KEYS.values()) if key.env is not None]


class _Kind(StrEnum):
    ONE = "one"
    OTHER = "other"


class _Body:
    """A request that has a body and nothing else."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def body(self) -> bytes:
        return self._data

    async def stream(self) -> Any:
        yield self._data


def _request(query: bytes, headers: list[tuple[bytes, bytes]]) -> Request:
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "query_string": query,
        "headers": headers,
    }
    return Request(scope | {"client": ("192.0.2.1", 1), "scheme": "http"})


async def _bodies(data: bytes) -> None:
    request = cast(Request, _Body(data))
    for model in _MODELS:
        try:
            found = await read_model(request, model, may_be_empty=True)
        except BadRequest:
            continue
        if isinstance(found, JobCreate):
            _job(found)
        elif isinstance(found, RetranscribeRequest):
            with contextlib.suppress(InvalidJob):
                wish = found.to_wish()
                wish.check({"transcribe_api": "azure"})
                wish.variables({})
                wish.secret_variables()
    with contextlib.suppress(client_service.AuthError):
        await client_http._string_map(request)


def _job(created: JobCreate) -> None:
    json.dumps(shown(created.input_data), ensure_ascii=False)
    try:
        check_wish(created.to_wish(), settings=_SETTINGS)
    except InvalidJob as error:
        check_text(error, _MOST_TEXT + len(created.runner) + len(created.type))
        return
    with contextlib.suppress(LaunchFailed):
        made = job_environment(created.input_data)
        assert all("\0" not in value for value in made.variables.values())


def _heads(data: bytes) -> None:
    head, _, query = data.partition(b"\n")
    text = head.decode("latin-1")
    names = (b"range", b"x-forwarded-for", b"x-forwarded-proto", b"if-range")
    headers = [(name, head) for name in names]
    request = _request(query, headers)
    for read in (queries.flag, queries.moment, queries.text):
        with contextlib.suppress(BadRequest):
            read(request, "a")
    with contextlib.suppress(BadRequest):
        queries.choice(request, "a", _Kind)
    with contextlib.suppress(BadRequest):
        assert 1 <= queries.page_size(request, "a", 10) <= queries.LARGEST_PAGE
    with contextlib.suppress(Unsatisfiable):
        wanted = wanted_range(Headers(raw=headers[:1]), size_bytes=1000, etag="e")
        assert wanted is None or 0 <= wanted.start < wanted.end <= 1000
    scope = TrustedProxies((ipaddress.IPv4Network("192.0.2.0/24"),)).unwrapped(request.scope)
    ipaddress.ip_address(scope["client"][0])
    bearer_token(text)
    with contextlib.suppress(InvalidCursor):
        assert Cursor.parse(text).created_at_ms >= 0
    basic_credentials(text)


def _file(data: bytes) -> None:
    """A configuration file, for both services."""
    _FILE.write_bytes(data)
    _read_both({})


def _environment(data: bytes) -> None:
    """Variables, by number and text."""
    _FILE.unlink(missing_ok=True)
    found: dict[str, str] = {}
    for line in data.split(b"\n")[:20]:
        if line:
            name = _ENVIRONMENT[(line[0] << 8 | line[-1]) % len(_ENVIRONMENT)]
            found[name] = line[1:-1].decode("utf-8", "replace").replace("\0", "")
    _read_both(found)


def _read_both(environ: dict[str, str]) -> None:
    reading = read_settings(_FILE, environ)
    for problem in reading.problems:
        str(problem)
    with contextlib.suppress(ConfigError):
        load_sfu_settings(_FILE, environ)


def _sealed(data: bytes) -> None:
    text = data.decode("latin-1")
    context = ("rescue", "job", "result")
    for sealed in (text, base64.urlsafe_b64encode(data).decode()):
        assert wire.unseal(_CIPHER, sealed, context=context) is None
        assert TrackOffer.unsealed(_CIPHER, sealed, "job") is None
    assert not wire.is_door_key(_CIPHER, text)
    # Whoever has the key may still be of another release.
    inner = _CIPHER.encrypt_each(data.decode("utf-8", "replace"), context=context)
    whole = ".".join(base64.urlsafe_b64encode(each).decode() for each in inner)
    found = wire.unseal(_CIPHER, whole, context=context)
    assert found is None or isinstance(found, dict)


def _documents(data: bytes) -> None:
    """JSON of workers and of the cluster."""
    note = data.decode("utf-8", "replace")
    kubernetes.end_note({"metadata": {"annotations": {kubernetes.NOTE: note}}})
    try:
        value = parse_json(data)
    except BadRequest:
        return
    readers: tuple[Callable[[Any], object], ...] = (wire.workload_of,)
    if isinstance(value, dict):
        readers += (wire.observation_of, wire.artifact_of, wire.WorkerCard.of)
    for read in readers:
        with contextlib.suppress(wire.WireError):
            read(value)


def _logs(data: bytes) -> None:
    """The end of a job's log, and a line of the audit file."""
    figures.tells_that_the_call_is_over(data)
    joined = figures.joined_after_s(data)
    assert joined is None or joined >= 0
    newest = figures.newest_figures(data)
    assert newest is None or len(newest) <= 64
    retranscription_steps._last_line(data, "retranscription.failed")
    entry_of(data)


_MODES: dict[bytes, Callable[[bytes], object]] = {
    b"b": lambda data: LOOP.run_until_complete(_bodies(data)),
    b"h": _heads,
    b"f": _file,
    b"e": _environment,
    b"s": _sealed,
    b"d": _documents,
    b"l": _logs,
}


def _run(data: bytes) -> None:
    mode = _MODES.get(data[:1])
    if mode is not None:
        mode(data[1:])


def _seeds() -> Iterable[bytes]:
    job = {
        "type": "recording",
        "runner": "mattermost/calls-recorder:v0.8.0",
        "max_duration_sec": 3600,
        "input_data": {
            "site_url": "https://mattermost.example.org",
            "call_id": "c" * 26,
            "auth_token": "t" * 26,
            "width": 1280,
            "model_size": "base",
            "transcribe_api_options": {"AZURE_SPEECH_ENDPOINT": "https://x.example"},
        },
    }
    yield b"b" + json.dumps(job).encode()
    yield (
        b"b"
        + json.dumps(job | {"type": "transcribing", "input_data": {"a": [[1.5], None]}}).encode()
    )
    yield b"b" + b'{"Runners":["a"],"clientID":"c","authKey":"k","auth_token":"t"}'
    yield (
        b"b"
        + json.dumps(
            {
                "model": "small",
                "language": "en, de",
                "vocabulary": ["a"],
                "engine": "azure",
                "publish": True,
            }
        ).encode()
    )
    for line in (
        b"bytes=0-99\na=1",
        b"bytes=-5\na=2026-01-31T10:00:00Z",
        b"[2001:db8::1]:80, 10.0.0.1:5, 192.0.2.7\na=1700000000000",
        b"Basic Y2xpZW50OmtleQ==\na=one",
        b"Bearer token\na=%41%ff&a=2",
        b"MTcwMDAwMDAwMDAwMC5qb2I=",
    ):
        yield b"h" + line
    yield b"f" + (
        b'[api.http]\nlisten_address = ":4545"\n[api.security]\nallow_self_registration = true\n'
        b'[jobs]\napi_type = "docker"\nmax_concurrent_jobs = 2\nfailed_jobs_retention_time = "30d"\n'
        b'[rtc]\nice_port_udp = 8443\nice_servers = [{urls = ["stun:s.example:3478"]}]\n'
    )
    yield b"e" + b'\x01true!\n\x0212\x07\n\x05["stun:a.example"]\x10\n\x0830d \n'
    yield b"s" + b'{"owner_url":"http://w:1","track":"t"}'
    for document in (
        {"backend": "docker", "reference": {"id": "x"}},
        {"phase": "exited", "exit_code": 1, "stopped_at": "2026-01-01T00:00:00+00:00", "detail": "",
         "usage": {}, "unpublished": False},
        {"name": "w", "url": "http://w:1", "version": "1", "labels": ["gpu"], "slots": 2, "recording": 1,
         "transcribing": 0, "transcribe_slots": 1, "draining": False, "only_labelled": False,
         "free_disk_bytes": None, "usable": ""},
    ):  # fmt: skip
        yield b"d" + json.dumps(document).encode()
    yield b"l" + (
        b'{"event":"started","joined_after_s":1.5}\n{"event":"metrics","packets":3,"x":1e400}\n'
        b'{"event":"progress","seq":7}\n{"event":"retranscription.failed","reason":"why"}'
    )


TARGET = Target(
    parses="the API's bodies, queries, headers, settings (TOML, environment), sealed messages, logs of jobs",
    run=_run,
    seeds=_seeds,
    tokens=(
        b'"input_data":{',
        b'"auth_token":',
        b'"site_url":"http://[',
        b'"max_duration_sec":',
        b"1e999",
        b"NaN",
        b"\\ud800",
        b"9" * 400,
        b"[" * 60,
        b"bytes=",
        b"Basic ",
        b"\n[jobs]\n",
        b"\n[jobs.docker]\n",
        b"\n[rtc]\n",
        b'{"event":"metrics",',
        b'"stopped_at":"',
    ),
    max_bytes=4096,
    ci_inputs=2000,
)
