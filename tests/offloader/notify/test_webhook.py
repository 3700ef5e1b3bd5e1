"""Lines over real HTTP: form, private CA, proxy, retries; and nobody learns the webhook's URL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foundation.retry import Backoff
from offloader.notify import lines as lines_module
from offloader.notify.lines import Lines
from offloader.notify.webhook import MattermostWebhook, NotSent, proxy_for
from offloader.setting_watching import NotifySettings, parse_webhook


async def sent(settings: NotifySettings, text: str = "a line") -> None:
    sender = MattermostWebhook(settings)
    try:
        await sender.send(text)
    finally:
        await sender.aclose()


async def test_a_line_arrives_in_mattermost_s_form(webhook: Any) -> None:
    await sent(NotifySettings(webhook.url), "ü: a line")
    assert webhook.requests == [{"text": "ü: a line", "username": "calls-offloader"}]
    assert webhook.kinds == ["application/json"]
    assert webhook.targets == ["/hooks/secret17"]


@pytest.mark.parametrize(
    ("status", "retryable", "words"),
    [
        (400, False, "HTTP 400: the webhook is not known, or disabled"),
        (403, False, "HTTP 403: incoming webhooks are disabled, or the channel is gone"),
        (429, True, "HTTP 429: too many requests"),
        (500, True, "HTTP 500"),
        (302, False, "HTTP 302"),
    ],
)
async def test_a_refusal_says_what_to_look_at(
    webhook: Any, status: int, retryable: bool, words: str
) -> None:
    webhook.answers = [status]
    with pytest.raises(NotSent) as refused:
        await sent(NotifySettings(webhook.url))
    assert (str(refused.value), refused.value.retryable) == (words, retryable)


async def test_a_private_ca_is_trusted_if_it_is_set_and_asked_for_if_not(
    tls_webhook: tuple[Any, Path],
) -> None:
    webhook, ca = tls_webhook
    with pytest.raises(NotSent, match=r"certificate is not trusted .*: see jobs\.ca_cert_file"):
        await sent(NotifySettings(webhook.url))
    await sent(NotifySettings(webhook.url, ca_cert_file=ca))
    assert webhook.lines == ["a line"]


async def test_a_proxy_is_used_unless_the_site_is_reached_directly(
    webhooks: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")  # the setting counts, not the environment
    site, proxy = webhooks(), webhooks()
    through = NotifySettings(site.url, http_proxy=proxy.url.removesuffix("/hooks/secret17"))
    await sent(through, "through the proxy")
    assert (proxy.lines, proxy.targets) == (["through the proxy"], [site.url])
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    direct = NotifySettings(site.url, http_proxy=through.http_proxy, no_proxy="127.0.0.1")
    await sent(direct, "directly")
    await sent(NotifySettings(site.url), "without any")
    assert site.lines == ["directly", "without any"]


def test_the_proxy_is_the_one_of_the_webhook_s_scheme() -> None:
    def chosen(url: str, no_proxy: str = "") -> str:
        return proxy_for(
            NotifySettings(url, http_proxy="http://a", https_proxy="http://b", no_proxy=no_proxy)
        )

    assert chosen("http://chat/hooks/x") == "http://a"
    assert chosen("https://chat.example.com/hooks/x") == "http://b"
    assert chosen("https://chat.example.com/hooks/x", "localhost,example.com") == ""


async def test_nobody_answers_is_a_plain_sentence_without_the_url(
    capfd: pytest.CaptureFixture[str], unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{unused_tcp_port}/hooks/secret17"
    monkeypatch.setattr(lines_module, "_BACKOFF", Backoff(attempts=2, first_wait_s=0.0))
    lost = asyncio.Event()
    lines = Lines(MattermostWebhook(NotifySettings(url)), on_lost=lost.set)
    lines.say("a line")
    task = asyncio.create_task(lines.run())
    async with asyncio.timeout(10):
        await lost.wait()
    task.cancel()
    said = "".join(capfd.readouterr())
    assert "cannot be reached" in said
    assert "secret17" not in said
    assert "secret17" not in repr(NotifySettings(url))


async def test_an_address_that_no_request_can_have_is_refused_like_any_other() -> None:
    with pytest.raises(NotSent, match="the webhook is no URL that can be asked"):
        await sent(NotifySettings("http://chat\x7f.example.com/hooks/x"))


async def test_an_answer_without_end_holds_up_nobody() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
        await reader.read()  # and never ends the body
        writer.close()
        await writer.wait_closed()
        gone.set()

    gone = asyncio.Event()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, asyncio.timeout(5):
        port = server.sockets[0].getsockname()[1]
        await sent(NotifySettings(f"http://127.0.0.1:{port}/hooks/secret17"))
        await gone.wait()


class Refusing:
    """Refuses so often, then takes."""

    def __init__(self, times: int, *, retryable: bool = True) -> None:
        self.times, self.retryable = times, retryable
        self.taken: list[str] = []
        self.tries = 0
        self.lost = 0
        self.lines = Lines(self, on_lost=self._lost)

    def _lost(self) -> None:
        self.lost += 1

    async def send(self, text: str) -> None:
        self.tries += 1
        if self.times:
            self.times -= 1
            raise NotSent("no", retryable=self.retryable)
        self.taken.append(text)

    async def aclose(self) -> None:
        return


async def settled(sender: Refusing, *, seconds: float) -> None:
    task = asyncio.create_task(sender.lines.run())
    await asyncio.sleep(seconds)
    task.cancel()


@pytest.mark.looptime
async def test_a_site_that_is_away_for_half_an_hour_gets_the_line_then() -> None:
    sender = Refusing(8)
    sender.lines.say("first")
    sender.lines.say("second")
    await settled(sender, seconds=3600)
    assert (sender.taken, sender.lost) == (["first", "second"], 0)


@pytest.mark.looptime
async def test_one_that_refuses_for_good_is_not_asked_again() -> None:
    sender = Refusing(1, retryable=False)
    sender.lines.say("first")
    sender.lines.say("second")
    await settled(sender, seconds=1)
    assert (sender.taken, sender.lost, sender.tries) == (["second"], 1, 2)


@pytest.mark.looptime
async def test_an_unforeseen_error_costs_its_line_and_none_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sender = Refusing(0)
    send = sender.send

    async def breaks_once(text: str) -> None:
        monkeypatch.setattr(sender, "send", send)
        raise RuntimeError("https://chat/hooks/secret17")

    monkeypatch.setattr(sender, "send", breaks_once)
    sender.lines.say("first")
    sender.lines.say("second")
    await settled(sender, seconds=1)
    assert (sender.taken, sender.lost) == (["second"], 1)


@pytest.mark.looptime
async def test_lines_that_nobody_takes_are_dropped_and_counted() -> None:
    sender = Refusing(10**6)
    for number in range(20):
        sender.lines.say(str(number))
    assert sender.lost == 4


@pytest.mark.parametrize(
    "url",
    [
        "chat.example.com/hooks/secret17",
        "ftp://chat.example.com/hooks/secret17",
        "https://chat.example.com",
        "https://chat.example.com/",
        "https://user:secret17@chat.example.com/hooks/x",
        "https://chat.example.com/hooks/x?key=secret17",
        "https://chat.example.com:x/hooks/secret17",
        "https:///hooks/secret17",
    ],
)
def test_what_is_no_webhook_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match="should be the URL of an incoming webhook") as refused:
        parse_webhook(url)
    assert "secret17" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["", "https://chat.example.com/sub/hooks/x", "http://10.0.0.1:8065/hooks/x"]
)
def test_a_webhook_is_taken_as_it_is(url: str) -> None:
    assert parse_webhook(f" {url} ") == url
