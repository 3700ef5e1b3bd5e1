"""The stand-in's page and its files: what they are served as, and what they may do."""

from __future__ import annotations

from pathlib import Path

import pytest

_WEB = Path(__file__).parents[3] / "testbed" / "web"


async def test_the_page_of_the_call_runs_no_foreign_and_no_inline_code(standin) -> None:
    path = f"/testbed/call/{standin.channel_id}"
    response = await standin.request("GET", path, who=None)
    assert response.status_code == 200
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "<script>" not in response.text
    assert " style=" not in response.text


async def test_there_is_no_page_of_another_channel(standin) -> None:
    assert (await standin.request("GET", "/testbed/call/other", who=None)).status_code == 404


async def test_a_short_address_leads_to_the_call(standin) -> None:
    response = await standin.request("GET", "/testbed/call", who=None)
    assert response.headers["location"] == f"/testbed/call/{standin.channel_id}"


@pytest.mark.parametrize("name", sorted(p.name for p in _WEB.iterdir() if p.suffix != ".html"))
async def test_each_file_is_served_with_its_type(standin, name: str) -> None:
    response = await standin.request("GET", f"/testbed/web/{name}", who=None)
    assert response.status_code == 200
    wanted = "text/javascript" if name.endswith(".js") else "text/css"
    assert response.headers["content-type"].split(";")[0] == wanted


@pytest.mark.parametrize("name", ["index.html", "..%2fworld.json", "other.js", "%2e%2e"])
async def test_nothing_else_is_served(standin, name: str) -> None:
    assert (await standin.request("GET", f"/testbed/web/{name}", who=None)).status_code == 404


async def test_a_login_gives_the_users_token_and_no_other(standin) -> None:
    body = {"username": "bob"}
    response = await standin.request("POST", "/testbed/login", who=None, json=body)
    assert response.json() == {"user_id": standin.user_id("bob"), "token": standin.token("bob")}


async def test_a_typed_name_gives_an_account_whose_name_others_see(standin) -> None:
    response = await standin.request("POST", "/testbed/login", who=None, json={"name": "Jane Doe"})
    headers = {"Authorization": f"Bearer {response.json()['token']}"}
    ids = [response.json()["user_id"]]
    path = "/api/v4/users/ids"
    (found,) = (await standin.request("POST", path, who=None, json=ids, headers=headers)).json()
    assert (found["first_name"], found["last_name"]) == ("Jane", "Doe")


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("demo.test:8065", "connect-src 'self' ws://demo.test:8065;"),
        ("demo.test", "connect-src 'self' ws://demo.test;"),
        ("x; script-src *", "connect-src 'self';"),
        ("x:y", "connect-src 'self';"),
    ],
)
async def test_the_page_may_open_its_own_websocket_and_no_other(standin, host, source) -> None:
    path = f"/testbed/call/{standin.channel_id}"
    response = await standin.request("GET", path, who=None, headers={"Host": host})
    assert source in response.headers["content-security-policy"]


async def test_sentences_of_the_bundled_model_can_be_fetched_and_nothing_beside(standin) -> None:
    names = (await standin.request("GET", "/testbed/speech", who=None)).json()
    clip = await standin.request("GET", f"/testbed/speech/{names[0]}", who=None)
    assert clip.content[:4] == b"OggS"
    other = await standin.request("GET", "/testbed/speech/clips.json", who=None)
    assert other.status_code == 404


@pytest.mark.parametrize(
    "body", [{"username": "calls"}, {}, [], {"username": ["bob"]}, {"name": ""}, {"name": ["x"]}]
)
async def test_a_login_of_nobody_is_refused(standin, body: object) -> None:
    response = await standin.request("POST", "/testbed/login", who=None, json=body)
    assert response.status_code == 400


async def test_clients_are_told_what_a_test_has_set(standin) -> None:
    values = {"EnableSimulcast": True}
    await standin.request("POST", "/testbed/config", who=None, json=values)
    assert (await standin.get("/config", who="bob")).json()["EnableSimulcast"] is True


@pytest.mark.parametrize("values", [{"Enable": True}, {"EnableAV1": 1}, {"ICEServers": []}])
async def test_a_switch_that_is_none_is_refused_by_name(standin, values: dict) -> None:
    response = await standin.request("POST", "/testbed/config", who=None, json=values)
    assert response.status_code == 400
    assert next(iter(values)) in response.text


async def test_the_version_tells_the_sfus_too(standin) -> None:
    answer = (await standin.get("/version", who=None)).json()
    assert (answer["rtcd_version"], answer["rtcd_build"]) == ("v1.2.6", "abc")


async def test_without_an_sfu_a_join_is_refused_with_the_reason_and_no_call_begins(standin) -> None:
    standin.sfu.missing = "no SFU is available"
    alice = await standin.connect("alice")
    error = (await alice.join()).only("error")
    assert error.data == {"data": "no SFU is available", "connID": alice.connection_id}
    assert not (await standin.call())["active"]
