"""Resumable uploads with the server's limits (calls-plugin.md 5.3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from testbed.plugin.posts import Archive
from testbed.plugin.uploads import UploadRefused, Uploads
from testbed.plugin.world import User

MIB = 1024 * 1024
CONTENT = bytes(range(256)) * (6 * MIB // 256)


async def _create(standin, size: int, **changes: object):
    body = {"channel_id": standin.channel_id, "filename": "a.mp4", "file_size": size} | changes
    return await standin.post("/bot/uploads", body)


async def _upload_id(standin, size: int) -> str:
    response = await _create(standin, size)
    assert response.status_code == 200  # and not 201 (trap 34)
    return str(response.json()["id"])


async def _send(standin, upload_id: str, data: bytes):
    path = f"{standin.plugin}/bot/uploads/{upload_id}"
    return await standin.request("POST", path, content=data)


async def _offset(standin, upload_id: str) -> int:
    return int((await standin.get(f"/bot/uploads/{upload_id}")).json()["file_offset"])


async def _stored(standin, file_id: str) -> bytes:
    return bytes((await standin.request("GET", f"/testbed/files/{file_id}", who=None)).content)


async def test_a_new_upload_is_answered_with_its_session(standin) -> None:
    response = await _create(standin, 123_456)
    session = response.json()
    assert session.pop("create_at") == pytest.approx(standin.now_ms(), abs=60_000)
    assert len(session.pop("id")) == 26
    assert session == {
        "type": "attachment",
        "user_id": standin.user_id("calls"),
        "channel_id": standin.channel_id,
        "filename": "a.mp4",
        "file_size": 123_456,
        "file_offset": 0,
        "remote_id": "",
        "req_file_id": "",
    }
    assert (await standin.get(f"/bot/uploads/{response.json()['id']}")).json() == response.json()


async def test_an_upload_that_names_no_file_or_channel_is_400(standin) -> None:
    changes: tuple[dict[str, object], ...] = (
        {"filename": ""},
        {"filename": None},
        {"file_size": 0},
        {"file_size": -1},
        {"file_size": "5"},
        {"channel_id": "x" * 26},
        {"channel_id": None},
    )
    for change in changes:
        response = await _create(standin, 5, **change)
        assert response.status_code == response.json()["status_code"] == 400, change
    assert (await standin.request("GET", "/testbed/uploads", who=None)).json() == []


async def test_a_body_that_is_no_object_is_400(standin) -> None:
    for content in (b"", b"[]", b"{"):
        path = f"{standin.plugin}/bot/uploads"
        assert (await standin.request("POST", path, content=content)).status_code == 400


async def test_a_file_in_one_part_is_answered_with_its_info_and_the_session_is_gone(
    standin,
) -> None:
    upload_id = await _upload_id(standin, 5)
    response = await _send(standin, upload_id, b"hello")
    assert response.status_code == 200
    info = response.json()
    assert (info["name"], info["size"]) == ("a.mp4", 5)
    assert info["id"] != upload_id
    assert await _stored(standin, info["id"]) == b"hello"
    assert (await standin.get(f"/bot/uploads/{upload_id}")).status_code == 404
    assert (await _send(standin, upload_id, b"hello")).status_code == 404


async def test_an_unfinished_file_is_204_and_goes_on_from_the_offset(standin) -> None:
    upload_id = await _upload_id(standin, len(CONTENT))
    response = await _send(standin, upload_id, CONTENT[: 5 * MIB])
    assert (response.status_code, response.content) == (204, b"")
    assert await _offset(standin, upload_id) == 5 * MIB
    second = 5 * MIB + 1000  # only the first part has a least size
    assert (await _send(standin, upload_id, CONTENT[5 * MIB : second])).status_code == 204
    response = await _send(standin, upload_id, CONTENT[second:])
    assert response.status_code == 200
    assert await _stored(standin, response.json()["id"]) == CONTENT


@pytest.mark.parametrize("size", [0, 1, 5 * MIB - 1])
async def test_a_first_part_below_5_mib_is_refused_unless_it_is_the_file(
    standin, size: int
) -> None:
    upload_id = await _upload_id(standin, len(CONTENT))
    response = await _send(standin, upload_id, CONTENT[:size])
    assert response.status_code == 400
    assert "first_part_too_small" in response.json()["id"]
    assert await _offset(standin, upload_id) == 0
    assert (await _send(standin, upload_id, CONTENT)).status_code == 200


async def test_one_request_stores_at_most_the_servers_limit_and_cuts_the_rest(start) -> None:
    standin = await start(max_file_size_bytes=5 * MIB)
    upload_id = await _upload_id(standin, len(CONTENT))
    assert (await _send(standin, upload_id, CONTENT)).status_code == 204
    assert await _offset(standin, upload_id) == 5 * MIB
    response = await _send(standin, upload_id, CONTENT[5 * MIB :])
    assert await _stored(standin, response.json()["id"]) == CONTENT


async def test_what_is_more_than_the_file_is_cut_off(standin) -> None:
    upload_id = await _upload_id(standin, 5)
    response = await _send(standin, upload_id, b"hello and more")
    assert response.status_code == 200
    assert await _stored(standin, response.json()["id"]) == b"hello"


async def test_a_damaged_part_is_counted_and_its_content_lost(standin) -> None:
    await standin.fault(damage_upload_parts=1)
    first, second = await _upload_id(standin, 5), await _upload_id(standin, 5)
    response = await _send(standin, first, b"hello")
    assert response.status_code == 200
    assert await _stored(standin, response.json()["id"]) == bytes(5)
    response = await _send(standin, second, b"hello")
    assert await _stored(standin, response.json()["id"]) == b"hello"


async def test_a_refused_part_is_500_and_leaves_the_upload_as_it_was(standin) -> None:
    await standin.fault(refuse_upload_parts=2)
    upload_id = await _upload_id(standin, 5)
    for _ in range(2):
        assert (await _send(standin, upload_id, b"hello")).status_code == 500
        assert await _offset(standin, upload_id) == 0
    assert (await _send(standin, upload_id, b"hello")).status_code == 200


async def test_two_requests_at_once_for_one_upload_are_not_taken(standin) -> None:
    upload_id = await _upload_id(standin, len(CONTENT))
    arrived, finish = asyncio.Event(), asyncio.Event()

    async def slow_body() -> AsyncIterator[bytes]:
        yield CONTENT[:MIB]
        arrived.set()
        await finish.wait()
        yield CONTENT[MIB:]

    path = f"{standin.plugin}/bot/uploads/{upload_id}"
    slow = asyncio.create_task(standin.request("POST", path, content=slow_body()))
    await arrived.wait()
    assert (await _send(standin, upload_id, CONTENT)).status_code == 400
    finish.set()
    response = await slow
    assert response.status_code == 200
    assert await _stored(standin, response.json()["id"]) == CONTENT


async def test_an_upload_whose_sender_broke_off_can_be_resumed(standin) -> None:
    upload_id = await _upload_id(standin, len(CONTENT))

    class BrokenOff(Exception):
        pass

    async def broken_body() -> AsyncIterator[bytes]:
        yield CONTENT[:MIB]
        raise BrokenOff

    path = f"{standin.plugin}/bot/uploads/{upload_id}"
    with pytest.raises(BrokenOff):
        await standin.request("POST", path, content=broken_body())
    offset = await _offset(standin, upload_id)
    response = await _send(standin, upload_id, CONTENT[offset:])
    assert await _stored(standin, response.json()["id"]) == CONTENT


async def test_the_session_of_another_user_is_403(tmp_path) -> None:
    archive = Archive(tmp_path / "files")
    uploads = Uploads(tmp_path / "uploads", archive, max_file_size_bytes=100)
    owner, other = (User(name, name, "", "", name) for name in ("owner", "other"))
    upload = uploads.create(owner, "channel", "a", 3, 0)

    async def body() -> AsyncIterator[bytes]:
        yield b"abc"

    with pytest.raises(UploadRefused) as refused:
        await uploads.receive(other, upload.upload_id, body())
    assert refused.value.status == 403
    stored = await uploads.receive(owner, upload.upload_id, body())
    assert stored is not None
    assert stored.path.read_bytes() == b"abc"


async def test_an_unknown_upload_is_404(standin) -> None:
    assert (await standin.get(f"/bot/uploads/{'x' * 26}")).status_code == 404
    assert (await _send(standin, "x" * 26, b"a")).status_code == 404


async def test_a_file_that_does_not_exist_is_404(standin) -> None:
    response = await standin.request("GET", "/testbed/files/none", who=None)
    assert response.status_code == 404
