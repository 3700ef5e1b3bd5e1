"""A whole service: what its configuration names is told; what it says is IDs and states."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from foundation.layered_config import ConfigError
from offloader.cli.main import main
from offloader.settings import load_settings

Start = Callable[..., Awaitable[Any]]
SECRET = "s" * 32


def read(table: Any) -> Any:
    text = table if isinstance(table, str) else json.dumps(table)
    return load_settings(Path("/nonexistent"), {"NOTIFY_WEBHOOKS": text}).notify.webhooks


@pytest.mark.slow
async def test_receivers_hear_of_every_state_also_of_what_changed_while_they_were_away(
    start: Start, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("_PAUSE_S", "_LOOK_EVERY_S", "_RENEW_EVERY_S"):
        monkeypatch.setattr(f"offloader.webhooks.delivery.{name}", 0.01)
    away = True
    bodies: list[bytes] = []

    async def take(request: web.Request) -> web.Response:
        if not away:
            bodies.append(await request.read())
        return web.Response(status=503 if away else 204)

    app = web.Application()
    app.router.add_post("/hush17", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/hush17"
    told = {"NOTIFY_WEBHOOKS": json.dumps({"billing": {"url": url, "secret": SECRET}})}
    async with AsyncExitStack() as first:
        service = await start(stack=first, **told)
        job_id = await service.create_job()
        await service.check()
        text = ""
        async with asyncio.timeout(15):
            while not re.search(r'outcome="failed",webhook="billing"} [1-9]', text):
                text = (await service.http.get("/metrics")).text
        assert 'calls_offloader_webhook_waiting_events{webhook="billing"}' in text
    away = False
    service.clock.advance(seconds=30)
    again = await start(backend=service.backend, clock=service.clock, **told)
    again.backend.exit(job_id, 0)
    await again.check()
    async with asyncio.timeout(15):
        while not bodies or json.loads(bodies[-1])["state"] != "finished":
            await asyncio.sleep(0.01)
    await runner.cleanup()
    events = [json.loads(body) for body in bodies]
    assert [event["state"] for event in events] == ["pending", "starting", "running", "finished"]
    assert len({event["event_id"] for event in events}) == 4
    last = events[-1]
    assert last.keys() == {
        *("event_id", "type", "time", "job_id", "job_type", "state", "stop_reason"),
    }
    assert (last["job_id"], last["job_type"], last["stop_reason"]) == (
        job_id,
        "recording",
        "completed",
    )
    for word in (b"call1", b"post1", b"hidden-token", b"plugin", b"runner"):
        assert word not in b"".join(bodies)
    said = "".join(capfd.readouterr())
    assert "hush17" not in said
    assert SECRET not in said


async def test_without_receivers_nothing_is_kept_for_anybody(start: Start) -> None:
    service = await start()
    await service.create_job()
    assert "calls_offloader_webhook" not in (await service.http.get("/metrics")).text


@pytest.mark.parametrize(
    ("receiver", "told"),
    [
        ({}, "billing.url: should be https://HOST/"),
        ({"url": "http://hooks.example.com/x"}, "billing.url: should be"),
        ({"url": "https://u:pw@hooks.example.com/x"}, "billing.url: should be"),
        ({"url": "https://169.254.169.254/x"}, "billing.url: should be"),
        ({"url": "https://[fe80::1]/x"}, "billing.url: should be"),
        ({"url": "ftp://h/x"}, "billing.url: should be"),
        ({"url": "https://h:99999/x"}, "billing.url: should be"),
        ({"url": 7}, "billing.url: should be"),
        ({"secret": ""}, "billing.secret: should be a text, or secret_file a path"),
        ({"secret": "s" * 31}, "billing.secret: should be at least 32 characters"),
        ({"secret_file": "/etc/x"}, "billing.secret: should be a text, or"),
        ({"allow_http": "yes"}, "billing.allow_http: should be true or false"),
        ({"sekret": "x"}, "billing: should be a table of allow_http, secret, secret_file, url"),
    ],
)
def test_what_cannot_be_used_is_named_without_its_value(
    receiver: Mapping[str, Any], told: str
) -> None:
    good = {"url": "https://hooks.example.com/hush17", "secret": SECRET}
    value = {} if not receiver else good | receiver
    with pytest.raises(ConfigError) as refused:
        read({"billing": value})
    assert told in str(refused.value)
    for hidden in ("hush17", "sss", "pw@"):
        assert hidden not in str(refused.value)
    for wrong in ({"a b": good}, {f"n{n}": good for n in range(17)}):
        with pytest.raises(ConfigError, match="should be"):
            read(wrong)


def test_http_is_for_this_host_or_for_who_asks_for_it() -> None:
    for url, more in (
        ("https://hooks.example.com/x", {}),
        ("http://127.0.0.1:8080/x", {}),
        ("http://localhost/x", {}),
        ("http://[::1]/x", {}),
        ("http://hooks.example.com/x", {"allow_http": True}),
    ):
        [webhook] = read({"billing": {"url": url, "secret": SECRET} | more})
        assert (webhook.url, webhook.read_secret()) == (url, SECRET.encode())


@pytest.mark.documents(
    "the-secret-of-a-webhook-that-cannot-be-read", "the-secret-of-a-webhook-that-is-too-short"
)
async def test_a_secret_in_a_file_is_read_at_the_start_or_refused_by_name(
    start: Start,
    tmp_path: Path,
    documented: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "secret"
    table = {"billing": {"url": "https://hooks.example.com/x", "secret_file": str(file)}}
    told = {"NOTIFY_WEBHOOKS": json.dumps(table)}
    with pytest.raises(ConfigError) as missing:
        await start(**told)
    documented("the-secret-of-a-webhook-that-cannot-be-read", str(missing.value))
    file.write_text("short\n")
    with pytest.raises(ConfigError) as short:
        await start(**told)
    documented("the-secret-of-a-webhook-that-is-too-short", str(short.value))
    monkeypatch.setenv("NOTIFY_WEBHOOKS", told["NOTIFY_WEBHOOKS"])
    assert main(["config", "check", "--config", str(tmp_path / "none.toml")]) == 1
    assert str(short.value) in capsys.readouterr().out
    file.write_text(SECRET + "\n")
    [webhook] = read(table)
    assert webhook.read_secret() == SECRET.encode()
    await start(**told)
