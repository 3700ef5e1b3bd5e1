from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

KEY = "k" * 32


async def test_a_client_is_added_with_a_key_that_is_shown_once_and_works(serve: Any) -> None:
    served = await serve(API_SECURITY_ALLOWSELFREGISTRATION="false")
    assert (await served.run("clients", "list")).out == "no clients are registered\n"
    added = await served.run("clients", "add", "plugin", "--json")
    key = added.json["authKey"]
    assert len(key) >= 32
    answer = await served.running.post_job(client="plugin")
    assert answer.status_code == 401  # with another key
    login = {"clientID": "plugin", "authKey": key}
    assert (await served.running.http.post("/login", json=login)).status_code == 200
    assert key not in (await served.run("clients", "list", "--json")).out


async def test_a_given_key_is_used_and_never_shown(served: Any, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(KEY + "\n")
    result = await served.run("clients", "add", "plugin", "--key-file", str(path))
    assert result.out == "client plugin is registered\n"
    assert (await served.running.post_job(client="plugin")).status_code == 200
    path.write_text("short")
    refused = await served.run("clients", "add", "other", "--key-file", str(path))
    assert (refused.code, "at least 32" in refused.err) == (1, True)


async def test_rotation_ends_the_old_key_and_its_session(served: Any) -> None:
    await served.running.post_job(client="plugin")
    login = {"clientID": "plugin", "authKey": KEY}
    bearer = (await served.running.http.post("/login", json=login)).json()["bearerToken"]
    header = {"Authorization": f"Bearer {bearer}"}
    assert (await served.running.http.get("/jobs", headers=header)).status_code == 200
    rotated = await served.run("clients", "rotate", "plugin")
    assert "has a new key" in rotated.out
    assert (await served.running.http.get("/jobs", headers=header)).status_code == 401
    assert (await served.running.post_job(client="plugin")).status_code == 401


async def test_revoking_says_when_the_client_can_come_back(serve: Any) -> None:
    served = await serve()
    await served.running.post_job(client="plugin")
    assert "plugin  1" in (await served.run("clients", "list")).out
    revoked = await served.run("clients", "revoke", "plugin")
    assert "allow_self_registration is on" in revoked.out
    assert (await served.run("clients", "list", "--json")).json == {"clients": []}


async def test_a_clients_name_cannot_steer_the_terminal(
    served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:  # a release that took any name
        earlier.setattr("clientauth.service.may_be_named", lambda _: True)
        await served.running.post_job(client="\x1b[31mred")
    result = await served.run("clients", "list")
    assert "\x1b" not in result.out
    assert "?[31mred" in result.out
