"""Registration and login through the SFU's routes (rtcd.md 1.5)."""

from __future__ import annotations

import asyncio

import pytest

KEY = "k" * 32


async def test_a_client_is_registered_logs_in_works_and_is_gone(start_plane) -> None:
    plane = await start_plane(allow_self_registration=True)
    body = {"clientID": "new", "authKey": KEY}
    registered = await plane.http.post("/register", json=body)
    assert (registered.status_code, registered.json()) == (201, {"clientID": "new", "code": "201"})
    assert registered.text.endswith("\n")
    logged_in = await plane.http.post("/login", json=body)
    assert (logged_in.status_code, logged_in.json()["code"]) == (200, "200")
    bearer = {"Authorization": f"Bearer {logged_in.json()['bearerToken']}"}
    assert (await plane.http.get("/calls/c/sessions", headers=bearer)).status_code == 404
    gone = await plane.http.post("/unregister", json={"clientID": "new"}, headers=bearer)
    assert (gone.status_code, gone.json()) == (200, {"code": "200"})
    assert (await plane.http.get("/calls/c/sessions", headers=bearer)).status_code == 401


async def test_without_self_registration_a_registration_needs_a_client_or_the_admin(plane) -> None:
    def body(name: str) -> dict[str, str]:
        return {"clientID": name, "authKey": KEY}

    refused = await plane.http.post("/register", json=body("a"))
    assert (refused.status_code, refused.json()) == (
        *(401, {"error": "authentication failed: invalid auth header", "code": "401"}),
    )
    for name, headers in (("b", plane.admin()), ("c", plane.basic())):
        response = await plane.http.post("/register", json=body(name), headers=headers)
        assert response.status_code == 201


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/register", {"clientID": "n", "authKey": "k" * 31}, 400, "key not long enough"),
        ("/register", {"clientID": "plugin", "authKey": KEY}, 400, "already registered"),
        ("/register", {"authKey": KEY}, 400, "error: empty key"),
        ("/register", {"clientID": "a\r\nb", "authKey": KEY}, 400, "no space at either end"),
        ("/login", {"clientID": "plugin", "authKey": "x" * 32}, 400, "authentication failed"),
        ("/login", {"clientID": "nobody", "authKey": KEY}, 400, "error: not found"),
        ("/unregister", {"clientID": ""}, 400, "client id should not be empty"),
        ("/unregister", {"clientID": "other"}, 403, "client id not valid"),
    ],
)
async def test_a_refusal_has_a_reason_and_its_status_twice(
    plane, path: str, body: dict[str, str], status: int, text: str
) -> None:
    response = await plane.http.post(path, json=body, headers=plane.basic())
    assert (response.status_code, response.json()["code"]) == (status, str(status))
    assert response.json()["error"].endswith(text)


BODIES = {
    "nothing": b"",
    "cut off": b'{"clientID": "new"',
    "list": b'["clientID"]',
    "text": b'"clientID"',
    "null": b"null",
    "number in it": b'{"clientID": 1}',
    "null in it": b'{"clientID": null}',
    "object in it": b'{"clientID": "new", "more": {}}',
    "not UTF-8": b'{"clientID": "\xff"}',
    "deep nesting": b'{"clientID": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "surrogate in the id": b'{"clientID": "\\ud800", "authKey": "' + b"k" * 32 + b'"}',
    "surrogate in the key": b'{"clientID": "plugin", "authKey": "\\udfff' + b"k" * 32 + b'"}',
    "surrogate in a name": b'{"clientID": "plugin", "\\ud800": ""}',
}


@pytest.mark.parametrize("path", ["/register", "/unregister", "/login"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
async def test_a_body_that_is_no_object_of_texts_is_400(plane, path: str, body: bytes) -> None:
    response = await plane.http.post(path, content=body, headers=plane.admin())
    assert response.status_code == 400
    assert response.json() == {
        "error": "request body should be a JSON object of texts",
        "code": "400",
    }


@pytest.mark.documents("a-request-body-of-more-than-1-mib")
async def test_a_body_of_more_than_a_mebibyte_is_413(plane, documented) -> None:
    body = b'{"clientID": "' + bytes(1 << 20) + b'"}'
    response = await plane.http.post("/login", content=body)
    assert response.status_code == 413
    documented("a-request-body-of-more-than-1-mib", response.json()["error"])


async def test_a_surrogate_pair_is_a_character_as_any_other(start_plane) -> None:
    plane = await start_plane(allow_self_registration=True)
    body = b'{"clientID": "\\ud83d\\ude00", "authKey": "' + b"k" * 32 + b'"}'
    response = await plane.http.post("/register", content=body)
    assert (response.status_code, response.json()["clientID"]) == (201, "\N{GRINNING FACE}")


async def test_a_wrong_key_and_an_unknown_client_are_refused_and_register_nobody(
    start_plane,
) -> None:
    plane = await start_plane(allow_self_registration=True)
    for headers in (plane.basic("plugin", "x" * 32), plane.basic("unknown")):
        response = await plane.http.get("/calls/call/sessions", headers=headers)
        assert response.status_code == 401
    login = await plane.http.post("/login", json={"clientID": "unknown", "authKey": KEY})
    assert login.status_code == 400


@pytest.mark.parametrize(
    ("modes", "who", "client", "status"),
    [
        ({"enable_admin": False}, "plugin", "plugin", 403),
        ({}, "nobody", "nobody", 401),
        ({"enable_admin": False, "allow_self_registration": True}, "nobody", "nobody", 401),
        ({}, "wrong key", "plugin", 401),
        ({}, "plugin", "other", 403),
        ({}, "admin", "nobody", 400),
        ({}, "plugin", "plugin", 200),
        ({}, "admin", "plugin", 200),
    ],
)
async def test_who_may_unregister_whom(
    start_plane, modes: dict[str, bool], who: str, client: str, status: int
) -> None:
    plane = await start_plane(**modes)
    headers = {
        "admin": plane.admin(),
        "wrong key": plane.basic("plugin", KEY + " "),
    }.get(who) or plane.basic(who)
    response = await plane.http.post("/unregister", json={"clientID": client}, headers=headers)
    assert (response.status_code, response.json()["code"]) == (status, str(status))
    again = await plane.http.post("/unregister", json={"clientID": client}, headers=headers)
    assert again.status_code == {200: 401 if who == "plugin" else 400}.get(status, status)


async def test_ten_clients_register_at_once(start_plane) -> None:
    plane = await start_plane(allow_self_registration=True)
    responses = await asyncio.gather(
        *(
            plane.http.post("/register", json={"clientID": f"client{number}", "authKey": KEY})
            for number in range(10)
        )
    )
    assert [response.status_code for response in responses] == [201] * 10
    for number in range(10):
        assert (await plane.connect(f"client{number}")).hello.client_id == f"client{number}"
