"""What the stand-in tells clients of STUN and TURN servers (section 4.11)."""

from __future__ import annotations

import base64
import hmac

import pytest

from testbed.plugin.client_config import ClientConfig

_STUN = {"urls": ["stun:s.example.org"]}
_OPEN = {"urls": ["turn:a.example.org", "turns:a.example.org:443"]}
_STATIC = {"urls": ["turn:b.example.org"], "username": "u", "credential": "c"}


@pytest.fixture
def config() -> ClientConfig:
    config = ClientConfig()
    config.set({"ICEServersConfigs": [_STUN, _OPEN, _STATIC], "TURNStaticAuthSecret": "secret"})
    return config


def test_turn_servers_without_credentials_are_not_shown_but_given_out_on_demand(
    config: ClientConfig,
) -> None:
    public = config.public()
    assert public["ICEServersConfigs"] == [_STUN, _STATIC]
    assert public["NeedsTURNCredentials"] is True
    [server] = config.turn_credentials("alice", now_s=1000.5) or []
    assert server["urls"] == _OPEN["urls"]
    assert server["username"] == f"{1000 + 1440 * 60}:alice"
    digest = hmac.digest(b"secret", server["username"].encode(), "sha1")
    assert server["credential"] == base64.b64encode(digest).decode()


def test_without_a_secret_there_is_nothing_to_give_out(config: ClientConfig) -> None:
    config.set({"ICEServersConfigs": [_OPEN]})
    assert config.public()["ICEServersConfigs"] == []
    assert config.public()["NeedsTURNCredentials"] is False
    assert config.turn_credentials("alice", now_s=0) is None


@pytest.mark.parametrize("entry", ["turn:a", {"username": "u"}, {"urls": None}, None])
def test_an_entry_without_urls_is_refused(entry: object) -> None:
    with pytest.raises(ValueError, match="ICEServersConfigs"):
        ClientConfig().set({"ICEServersConfigs": [entry]})
