"""A whole service and the command, at a webhook over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request

from foundation.clock import ManualClock
from foundation.logs import configure_logs
from offloader.api.deps import idempotency_key
from offloader.api.errors import BadRequest
from offloader.cli.main import main
from offloader.notify import told
from offloader.notify.causes import Cause

Start = Callable[..., Awaitable[Any]]


async def lines_of(webhook: Any, count: int) -> list[str]:
    async with asyncio.timeout(15):
        while len(webhook.lines) < count:
            await asyncio.sleep(0.01)
    return list(webhook.lines)


async def test_a_service_tells_of_a_failed_recording_a_lost_backend_and_its_return(
    start: Start,
    webhook: Any,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    configure_logs(level="debug")
    monkeypatch.setattr("offloader.notify.notifier._LOOK_EVERY_S", 0.02)
    service = await start(NOTIFY_MATTERMOSTWEBHOOK=webhook.url)
    job_id = await service.create_job()
    await service.check()
    service.backend.exit(job_id, 137)
    await service.check()
    (line,) = await lines_of(webhook, 1)
    assert f"a recording failed (crashed). `offloader jobs show {job_id}`" in line
    service.backend.unusable = "the socket of somebody"
    await looked(webhook, service)
    service.clock.advance(seconds=121)
    assert "what runs the jobs cannot be used" in (await lines_of(webhook, 2))[1]
    service.backend.unusable = ""
    await looked(webhook, service)
    service.clock.advance(seconds=61)
    assert "all is well again" in (await lines_of(webhook, 3))[2]
    assert "somebody" not in "".join(webhook.lines)
    assert "secret17" not in "".join(capfd.readouterr())


async def looked(webhook: Any, service: Any) -> None:
    """The service has looked since."""
    look, looks = service.backend.check_usable, 0

    async def counted() -> None:
        nonlocal looks
        looks += 1
        await look()

    service.backend.check_usable = counted
    async with asyncio.timeout(15):
        while looks < 2:
            await asyncio.sleep(0.01)
    service.backend.check_usable = look


async def test_what_failed_while_no_service_ran_is_told_by_the_next_one(
    start: Start, webhook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offloader.notify.notifier._LOOK_EVERY_S", 0.02)
    async with AsyncExitStack() as stack:
        before = await start(stack=stack)
        job_id = await before.create_job()
        await before.check()
    before.backend.exit(job_id, 137)
    after = await start(backend=before.backend, NOTIFY_MATTERMOSTWEBHOOK=webhook.url)
    await after.check()
    (line,) = await lines_of(webhook, 1)
    assert job_id in line


async def test_two_services_on_one_database_tell_once(
    start: Start, webhook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offloader.notify.notifier._LOOK_EVERY_S", 0.02)
    clock = ManualClock()
    services = [await start(NOTIFY_MATTERMOSTWEBHOOK=webhook.url, clock=clock) for _ in range(2)]
    for service in services:
        service.backend.unusable = "gone"
        await looked(webhook, service)
    clock.advance(seconds=121)
    await lines_of(webhook, 1)
    for service in services:
        await looked(webhook, service)
        service.backend.unusable = ""
        await looked(webhook, service)
    clock.advance(seconds=61)
    await lines_of(webhook, 2)
    for service in services:
        await looked(webhook, service)
    assert len(webhook.lines) == 2


async def test_an_engine_that_hangs_is_not_said_to_be_the_database(
    start: Start, webhook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offloader.notify.notifier._LOOK_EVERY_S", 0.02)
    monkeypatch.setattr("offloader.notify.running._LOOK_S", 0.02)
    service = await start(NOTIFY_MATTERMOSTWEBHOOK=webhook.url)
    service.backend.unusable = "does not answer"
    monkeypatch.setattr(service.backend, "free_disk_bytes", asyncio.Event().wait)
    await looked(webhook, service)
    service.clock.advance(seconds=121)
    (line,) = await lines_of(webhook, 1)
    assert "what runs the jobs cannot be used" in line


async def test_without_a_webhook_nobody_looks(start: Start) -> None:
    await start()
    assert not {"notify", "notify-lines"} & {task.get_name() for task in asyncio.all_tasks()}


@pytest.fixture
def command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*arguments: str) -> tuple[int, str]:
        code = main([*arguments, "--config", str(tmp_path / "none.toml")])
        return code, "".join(capfd.readouterr())

    return run


def test_the_command_sends_a_line_and_says_so(
    command: Any, webhook: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_MATTERMOSTWEBHOOK", webhook.url)
    assert command("notify", "test") == (0, "sent: look into the channel\n")
    code, out = command("notify", "test", "--json")
    assert (code, json.loads(out)) == (0, {"sent": True})
    assert ["this is a test" in line for line in webhook.lines] == [True, True]


@pytest.mark.documents("nobody-would-be-told", "the-line-did-not-arrive")
def test_the_command_says_why_not(
    command: Any, webhook: Any, monkeypatch: pytest.MonkeyPatch, documented: Any
) -> None:
    code, out = command("notify", "test")
    assert code == 1
    documented("nobody-would-be-told", out)
    webhook.answers = [400]
    monkeypatch.setenv("NOTIFY_MATTERMOSTWEBHOOK", webhook.url)
    code, out = command("notify", "test")
    assert code == 1
    documented("the-line-did-not-arrive", out)
    monkeypatch.setenv("NOTIFY_MATTERMOSTWEBHOOK", "https://chat.example.com/")
    code, out = command("config", "check")
    assert code == 1
    assert "notify.mattermost_webhook: should be the URL of an incoming webhook" in out


def test_what_is_in_force_is_shown_without_the_webhook(
    command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_MATTERMOSTWEBHOOK", "https://chat.example.com/hooks/secret17")
    code, out = command("config", "show")
    assert (code, "secret17" in out, "***" in out) == (0, False, True)


@pytest.mark.parametrize("cause", list(Cause))
def test_no_request_can_take_the_place_of_what_was_told(cause: Cause) -> None:
    headers = [(b"idempotency-key", told.key_of(cause, 123456).encode())]
    with pytest.raises(BadRequest):
        idempotency_key(Request({"type": "http", "headers": headers}))
