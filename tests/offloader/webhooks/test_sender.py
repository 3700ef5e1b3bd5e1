"""Events over real HTTP: verifiable as docs/webhooks.md says; nothing of an answer counts but its status."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from foundation.clock import ManualClock, SystemClock
from offloader.setting_watching import NotifySettings
from offloader.setting_webhooks import WebhookSettings
from offloader.webhooks.sender import HttpSender, NotDelivered
from testbed.certificates import make_certificates

PAGE = Path(__file__).parents[3] / "docs" / "webhooks.md"
SECRET = b"s" * 32
EVENT_ID = "6f" * 16
BODY = json.dumps({"event_id": EVENT_ID, "type": "job.state_changed"})


@dataclass
class Hook:
    """A receiver."""

    url: str = ""
    status: int = 200
    endless: bool = False
    got: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path)
        self.got.append((request.headers, await request.read()))
        if not self.endless:
            return web.Response(status=self.status, headers={"Location": "/elsewhere"})
        answer = web.StreamResponse(status=self.status)
        await answer.prepare(request)
        while True:
            await answer.write(b"x" * 65536)


@asynccontextmanager
async def served(tls: Any = None) -> AsyncIterator[Hook]:
    hook = Hook()
    app = web.Application()
    app.router.add_post("/{path:.*}", hook.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    hook.url = f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}/calls?key=hush17"
    try:
        yield hook
    finally:
        await runner.cleanup()


async def send(url: str, **way: Any) -> None:
    webhook = WebhookSettings("billing", url, SECRET.decode())
    clock = way.pop("clock", SystemClock())
    sender = HttpSender(webhook, SECRET, way=NotifySettings(**way), clock=clock)
    try:
        await sender.send(EVENT_ID, BODY)
    finally:
        await sender.aclose()


@pytest.fixture
def verified_event() -> Callable[..., Any]:
    """The function of docs/webhooks.md, as it stands there."""
    [code] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(code, str(PAGE), "exec"), names)
    return names["verified_event"]  # type: ignore[no-any-return]  # run from the page


async def test_the_documented_check_takes_ours_and_no_other(verified_event: Any) -> None:
    async with served() as hook:
        await send(hook.url)
        await send(hook.url)
        await send(hook.url, clock=ManualClock())
    (headers, body), (again, same), (old, _) = hook.got
    assert (headers["Content-Type"], headers["X-Offloader-Event-Id"]) == (
        "application/json",
        EVENT_ID,
    )
    assert headers["Host"] == hook.url.split("/")[2]
    seen: set[str] = set()
    assert verified_event(headers, body, b"x" * 32, seen) is None, "another secret"
    assert verified_event(headers, body + b" ", SECRET, seen) is None, "changed"
    later = {**headers, "X-Offloader-Timestamp": str(int(headers["X-Offloader-Timestamp"]) + 1)}
    assert verified_event(later, body, SECRET, seen) is None, "with another time"
    assert verified_event(old, body, SECRET, seen) is None, "played back after hours"
    assert verified_event({}, body, SECRET, seen) is None, "not signed at all"
    assert verified_event(headers, body, SECRET, seen) == json.loads(BODY)
    assert verified_event(again, same, SECRET, seen) == {}, "our own repetition"


@pytest.mark.parametrize("status", [302, 401, 503])
async def test_nothing_but_a_success_confirms_and_no_redirect_is_followed(status: int) -> None:
    async with served() as hook:
        hook.status = status
        with pytest.raises(NotDelivered, match=f"^HTTP {status}$"):
            await send(hook.url)
    assert hook.paths == ["/calls"]


@pytest.mark.parametrize("status", [200, 500])
async def test_an_endless_answer_is_not_read(status: int) -> None:
    async with served() as hook:
        hook.status, hook.endless = status, True
        async with asyncio.timeout(5):
            if status == 200:
                await send(hook.url)
            else:
                with pytest.raises(NotDelivered):
                    await send(hook.url)


@pytest.mark.documents(
    "a-receiver-of-events-that-leads-nowhere/2", "a-receiver-of-events-that-leads-nowhere/3"
)
async def test_a_name_that_means_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch, documented: Any
) -> None:
    async def means_nothing(*_: Any, **__: Any) -> list[Any]:
        return []

    async def unknown(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror

    loop = asyncio.get_running_loop()
    for number, means in ((2, unknown), (3, means_nothing)):
        monkeypatch.setattr(loop, "getaddrinfo", means)
        with pytest.raises(NotDelivered) as failed:
            await send("http://hooks.example.com:1/calls")
        documented(f"a-receiver-of-events-that-leads-nowhere/{number}", str(failed.value))


@pytest.mark.documents("a-receiver-of-events-that-leads-nowhere")
@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "fd00:ec2::254"])
async def test_a_name_that_leads_to_a_link_local_address_is_not_connected_to(
    address: str, monkeypatch: pytest.MonkeyPatch, documented: Any
) -> None:
    async def means(*_: Any, **__: Any) -> list[Any]:
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        loopback = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))
        return [loopback, (kind, socket.SOCK_STREAM, 6, "", (address, 1))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", means)
    with pytest.raises(NotDelivered, match="leads where no event goes") as refused:
        await send("http://hooks.example.com:1/calls?key=hush17")
    assert address not in str(refused.value)
    documented("a-receiver-of-events-that-leads-nowhere", str(refused.value))


async def test_the_address_that_was_looked_at_is_the_one_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name may mean something else a moment later. Whose first address is closed is asked at the next."""
    asked: list[str] = []

    async def means(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{n}", port)) for n in (9, 1)]

    async with served() as hook:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", means)
        await send(hook.url.replace("127.0.0.1", "hooks.example.com"))
    assert asked == ["hooks.example.com"]
    assert hook.got[0][0]["Host"].startswith("hooks.example.com:")


@pytest.mark.slow
async def test_certificates_are_checked_by_the_url_s_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ssl

    made = make_certificates(tmp_path / "tls", address="127.0.0.1")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(made.certificate, made.key)
    async with served(tls) as hook:
        with pytest.raises(NotDelivered, match=r"not trusted .*: see jobs\.ca_cert_file"):
            await send(hook.url)
        await send(hook.url, ca_cert_file=made.ca)

        async def means(host: str, port: int, **_: Any) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", means)
        other = hook.url.replace("127.0.0.1", "hooks.example.com")
        with pytest.raises(NotDelivered, match=r"not trusted .*[Hh]ostname"):
            await send(other, ca_cert_file=made.ca)
    assert len(hook.got) == 1


async def test_no_error_shows_the_url_or_the_secret() -> None:
    for url in ("http://127.0.0.1:1/calls?key=hush17", "http://none.invalid/calls?key=hush17"):
        with pytest.raises(NotDelivered) as failed:
            await send(url)
        assert "hush17" not in str(failed.value)
        assert failed.value.__cause__ is None
    webhook = WebhookSettings("billing", "https://h/hush17", "s" * 32)
    assert "hush17" not in repr(webhook)
    assert "sss" not in repr(webhook)
