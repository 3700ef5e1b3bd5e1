"""Credentials for TURN servers, and which servers are used (rtcd.md 3.11, 7, trap 32)."""

from __future__ import annotations

import pytest

from sfu.ice_settings import IceServer
from sfu.turn import TurnError, credentials, turn_servers

STATIC = IceServer(("turn:one:3478",), "user", "password")
BARE = IceServer(("turn:two:3478", "turns:two:5349"))
OTHER = IceServer(("turns:three:5349",))
STUN = IceServer(("stun:four:3478",))


def test_username_and_password_are_those_of_the_rest_api() -> None:
    username, password = credentials(
        secret="north", name="s1", expiration_minutes=10, now_s=1_400_000_000.9
    )
    assert username == "1400000600:s1"
    # echo -n 1400000600:s1 | openssl dgst -sha1 -hmac north -binary | base64
    assert password == "V5r4ff3wBdjPlD4JFpIpsueSODw="


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"secret": ""}, "invalid secret"),
        ({"name": ""}, "invalid username"),
        ({"expiration_minutes": 0}, "positive"),
        ({"expiration_minutes": -5}, "positive"),
        ({"expiration_minutes": 7 * 24 * 60 + 1}, "at most 1 week"),
    ],
)
def test_credentials_without_secret_name_or_a_sane_lifetime_are_refused(
    changes: dict[str, object], text: str
) -> None:
    values = {"secret": "s", "name": "n", "expiration_minutes": 1, "now_s": 0.0} | changes
    with pytest.raises(TurnError, match=text):
        credentials(**values)


def test_a_week_is_the_longest_life() -> None:
    username, _ = credentials(secret="s", name="n", expiration_minutes=10080, now_s=0)
    assert username == "604800:n"


def used(*servers: IceServer, secret: str = "") -> list[IceServer]:
    return turn_servers(servers, secret=secret, expiration_minutes=1, session_id="s1", now_s=1000.0)


def test_servers_without_credentials_all_get_them_and_stun_servers_none() -> None:
    found = used(BARE, STUN, OTHER, secret="s")
    assert [server.urls for server in found] == [BARE.urls, OTHER.urls]
    assert {server.username for server in found} == {"1060:s1"}
    assert len({server.credential for server in found}) == 1
    assert found[0].credential


def test_a_server_with_credentials_of_its_own_is_used_with_and_without_the_secret() -> None:
    assert used(STATIC) == [STATIC]
    assert used(STATIC, BARE, secret="s")[0] == STATIC


def test_without_the_secret_a_server_without_credentials_is_of_no_use() -> None:
    assert used(BARE) == []
