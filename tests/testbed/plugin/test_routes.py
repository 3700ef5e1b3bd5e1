"""Who may use which route, what it answers, and how often (calls-plugin.md 5.1, 5.2, 5.7)."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from PIL import Image

pytestmark = pytest.mark.looptime

NOBODY = "x" * 26
BOT_ROUTES = [
    ("GET", f"/bot/channels/{NOBODY}"),
    ("GET", f"/bot/users/{NOBODY}/image"),
    ("GET", f"/bot/calls/{NOBODY}/sessions/{NOBODY}/profile"),
    ("GET", f"/bot/calls/{NOBODY}/filename"),
    ("POST", "/bot/uploads"),
    ("GET", f"/bot/uploads/{NOBODY}"),
    ("POST", f"/bot/uploads/{NOBODY}"),
    ("POST", f"/bot/calls/{NOBODY}/recordings"),
    ("POST", f"/bot/calls/{NOBODY}/transcriptions"),
    ("POST", f"/bot/calls/{NOBODY}/jobs/{NOBODY}/status"),
]
USER_ROUTES = [
    ("GET", "/config"),
    ("GET", "/turn-credentials"),
    ("GET", f"/calls/{NOBODY}/active"),
    ("POST", f"/calls/{NOBODY}/recording/start"),
    ("POST", f"/calls/{NOBODY}/host/end"),
    ("POST", f"/calls/{NOBODY}/end"),
]


# who may


async def test_without_a_valid_token_every_route_is_401(standin) -> None:
    for (method, path), headers in itertools.product(
        BOT_ROUTES + USER_ROUTES,
        (
            {},
            {"Authorization": "Bearer"},
            {"Authorization": f"Bearer {NOBODY}"},
            {"Authorization": "Bearer \xe9".encode("latin-1")},
            {"Authorization": f"Basic {standin.token('calls')}"},
            {"Mattermost-User-Id": standin.user_id("calls")},
        ),
    ):
        response = await standin.request(method, standin.plugin + path, who=None, headers=headers)
        answer = (response.status_code, response.text.strip())
        assert answer == (401, "Unauthorized"), (path, headers)


async def test_the_bots_routes_are_403_for_people(standin) -> None:
    for method, path in BOT_ROUTES:
        response = await standin.request(method, standin.plugin + path, who="alice")
        assert (response.status_code, response.text.strip()) == (403, "Forbidden"), path


async def test_a_revoked_token_is_401(standin) -> None:
    path = f"/bot/calls/{standin.channel_id}/filename"
    assert (await standin.get(path)).status_code == 200
    await standin.request("POST", f"/testbed/revoke/{standin.user_id('calls')}", who=None)
    assert (await standin.get(path)).status_code == 401


async def test_the_scheme_may_have_any_case(standin) -> None:
    path = f"{standin.plugin}/bot/calls/{standin.channel_id}/filename"
    for scheme in ("Bearer", "BEARER", "bearer"):
        headers = {"Authorization": f"{scheme} {standin.token('calls')}"}
        response = await standin.request("GET", path, who=None, headers=headers)
        assert response.status_code == 200, scheme


async def test_the_token_may_come_in_the_query(standin) -> None:
    path = f"/bot/calls/{standin.channel_id}/filename?access_token="
    assert (await standin.get(path + standin.token("calls"), who=None)).status_code == 200
    assert (await standin.get(path + standin.token("bob"), who=None)).status_code == 403
    assert (await standin.get(path + NOBODY, who=None)).status_code == 401


async def test_an_unknown_path_is_404_as_text(standin) -> None:
    for path in ("/nothing", "/bot/nothing", "/bot/uploads/a/b"):
        response = await standin.get(path)
        assert response.status_code == 404, path
        assert response.headers["content-type"].startswith("text/plain")


# how often


async def test_a_user_has_10_requests_at_once_and_then_one_a_second(standin) -> None:
    async def statuses(count: int, who: str = "alice") -> list[int]:
        return [(await standin.get("/config", who=who)).status_code for _ in range(count)]

    assert await statuses(12) == [200] * 10 + [429] * 2
    await asyncio.sleep(1)
    assert await statuses(2) == [200, 429]
    assert await statuses(1, "bob") == [200]
    await asyncio.sleep(60)
    assert await statuses(11) == [200] * 10 + [429]


async def test_too_many_requests_are_told_in_plain_text(standin) -> None:
    responses = [await standin.get("/config", who="alice") for _ in range(11)]
    assert responses[-1].headers["content-type"].startswith("text/plain")
    assert json.loads(responses[-1].text) == {"message": "too many requests", "status_code": 429}


async def test_all_routes_of_a_user_share_one_allowance(standin) -> None:
    for _ in range(5):
        await standin.get("/config", who="alice")
        await standin.get(f"/calls/{standin.channel_id}/active", who="alice")
    assert (await standin.record()).status_code == 429


async def test_the_bots_routes_have_no_limit(standin) -> None:
    path = f"/bot/calls/{standin.channel_id}/filename"
    assert {(await standin.get(path)).status_code for _ in range(40)} == {200}


# the bot's routes


async def test_a_channel_is_shown_and_an_unknown_one_is_null(standin) -> None:
    response = await standin.get(f"/bot/channels/{standin.channel_id}")
    assert response.json()["id"] == standin.channel_id
    assert response.json()["display_name"] == "Town Square"
    response = await standin.get(f"/bot/channels/{NOBODY}")
    assert (response.status_code, response.json()) == (200, None)


async def test_a_picture_is_an_image_of_its_user(standin) -> None:
    async def image(who: str) -> bytes:
        response = await standin.get(f"/bot/users/{standin.user_id(who)}/image")
        assert response.headers["content-type"] == "image/png"
        return bytes(response.content)

    alice = await image("alice")
    assert Image.open(io.BytesIO(alice)).size == (128, 128)
    assert alice == await image("alice")
    assert alice != await image("bob")
    assert await image("dave")  # no names
    core = f"/api/v4/users/{standin.user_id('alice')}/image"
    assert (await standin.request("GET", core)).content == alice


async def test_a_picture_of_nobody_is_404(standin) -> None:
    assert (await standin.get(f"/bot/users/{NOBODY}/image")).status_code == 404


async def test_a_profile_is_there_while_its_session_is_in_the_call(standin) -> None:
    path = f"/bot/calls/{standin.channel_id}/sessions"
    gone = await standin.get(f"{path}/{NOBODY}/profile")
    assert standin.result(gone) == (400, "no call ongoing")
    await standin.joined("bob")
    alice = await standin.joined("alice")
    profile = (await standin.get(f"{path}/{alice.connection_id}/profile")).json()
    assert profile["id"] == alice.user_id
    assert (profile["username"], profile["first_name"], profile["last_name"]) == (
        "alice",
        "Alice",
        "Adams",
    )
    assert not any(profile.get(secret) for secret in ("password", "auth_data", "mfa_secret"))
    assert standin.token("alice") not in json.dumps(profile)
    await alice.act("leave")
    gone = await standin.get(f"{path}/{alice.connection_id}/profile")
    assert standin.result(gone) == (404, "not found")


async def test_a_profile_asked_for_with_the_calls_own_id_finds_no_call(standin) -> None:
    alice = await standin.joined("alice")
    call_id = (await standin.call())["call_id"]
    response = await standin.get(f"/bot/calls/{call_id}/sessions/{alice.connection_id}/profile")
    assert standin.result(response) == (400, "no call ongoing")


async def test_a_profile_may_have_empty_names(standin) -> None:
    dave = await standin.joined("dave")
    path = f"/bot/calls/{standin.channel_id}/sessions/{dave.connection_id}/profile"
    profile = (await standin.get(path)).json()
    assert (profile["first_name"], profile["last_name"]) == ("", "")


async def test_a_filename_is_of_the_channel_and_the_time_in_utc(standin) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    response = await standin.get(f"/bot/calls/{standin.channel_id}/filename")
    after = datetime.now(UTC)
    assert list(response.json()) == ["filename"]
    match = re.fullmatch(
        r"Call_Town_Square_(\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)", response.json()["filename"]
    )
    assert match is not None
    stamp = datetime.strptime(match[1], "%Y-%m-%d_%H-%M-%S").replace(tzinfo=UTC)
    assert before <= stamp <= after + timedelta(seconds=1)


# everybody's


async def test_the_version_needs_no_token(standin) -> None:
    response = await standin.get("/version", who=None)
    assert response.status_code == 200
    assert response.json()["version"] == "1.12.2"
    assert response.json()["build"]


async def test_the_config_has_the_keys_that_clients_read(standin) -> None:
    config = (await standin.get("/config", who="bob")).json()
    assert {
        "AllowEnableCalls",
        "DefaultEnabled",
        "MaxCallParticipants",
        "AllowScreenSharing",
        "EnableRecordings",
        "EnableTranscriptions",
        "EnableLiveCaptions",
        "MaxRecordingDuration",
        "EnableSimulcast",
        "EnableRinging",
        "sku_short_name",
        "HostControlsAllowed",
        "EnableAV1",
        "GroupCallsAllowed",
        "EnableDCSignaling",
        "EnableVideo",
        "ICEServers",
        "ICEServersConfigs",
        "NeedsTURNCredentials",
    } <= set(config)


async def test_there_are_no_turn_credentials_without_a_secret(standin) -> None:
    assert (await standin.get("/turn-credentials", who="bob")).status_code == 403


async def test_a_channel_is_active_during_its_call(standin) -> None:
    async def active(channel_id: str) -> bool:
        return bool((await standin.get(f"/calls/{channel_id}/active", who="bob")).json()["active"])

    assert not await active(standin.channel_id)
    alice = await standin.joined("alice")
    assert await active(standin.channel_id)
    assert not await active(NOBODY)
    await alice.act("leave")
    assert not await active(standin.channel_id)


async def test_users_are_found_by_their_ids_and_unknown_ones_left_out(standin) -> None:
    ids = [standin.user_id("bob"), NOBODY, standin.user_id("dave")]
    response = await standin.request("POST", "/api/v4/users/ids", json=ids)
    assert [user["username"] for user in response.json()] == ["bob", "dave"]
    assert standin.token("bob") not in response.text


# the testbed's own


async def test_an_unknown_or_wrongly_typed_fault_is_named(standin) -> None:
    response = await standin.fault(refuse_uploads=1)
    assert response.status_code == 400
    assert "refuse_uploads" in response.json()["detail"]
    response = await standin.fault(refuse_upload_parts="1")
    assert response.status_code == 400
    assert "refuse_upload_parts" in response.json()["detail"]


async def test_faults_are_off_until_asked_for_and_told_back(standin) -> None:
    off = (await standin.fault()).json()
    assert not any(off.values())
    assert (await standin.fault(damage_upload_parts=2)).json() == off | {"damage_upload_parts": 2}
