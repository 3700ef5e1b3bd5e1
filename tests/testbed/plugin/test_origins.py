"""Which pages may open the WebSocket (Mattermost's AllowCorsFrom)."""

from __future__ import annotations

import pytest

from testbed.plugin.origins import AllowedOrigins

_SITE = "https://chat.test"
_HOST = "chat.test"


@pytest.mark.parametrize("listed", ["", "*", "https://app.test"])
def test_who_sends_no_origin_may(listed: str) -> None:
    assert AllowedOrigins(listed, _SITE).allow(None, _HOST)
    assert AllowedOrigins(listed, _SITE).allow("", _HOST)


@pytest.mark.parametrize(
    ("listed", "origin", "allowed"),
    [
        ("", _SITE, True),
        ("", "https://CHAT.test", True),
        ("", "https://chat.test:8443", False),
        ("", "https://evil.test", False),
        ("", "null", False),
        ("*", "https://evil.test", True),
        ("https://app.test", "https://app.test", True),
        ("https://app.test", _SITE, True),
        ("https://app.test", "https://app.test.evil.test", False),
        ("https://a.test https://b.test", "https://b.test", True),
        ("https://a.test https://b.test", "https://c.test", False),
    ],
)
def test_a_page_may_when_its_origin_is_the_sites_or_listed(
    listed: str, origin: str, *, allowed: bool
) -> None:
    assert AllowedOrigins(listed, _SITE).allow(origin, _HOST) is allowed


async def test_a_foreign_page_is_refused_before_the_upgrade(standin) -> None:
    socket = standin.open({"Origin": "https://evil.test", "Host": "standin"})
    with pytest.raises(ConnectionError):
        await socket.frame()
    assert not socket.opened.is_set()


async def test_a_page_of_the_site_is_let_in(standin) -> None:
    headers = {"Origin": "http://standin", "Host": "standin"} | standin.bearer("alice")
    assert (await standin.open(headers).frame())["event"] == "hello"
