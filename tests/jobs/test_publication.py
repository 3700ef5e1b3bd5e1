"""A post is made once; a doubt never becomes a second one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from callclient.plugin_api import ApiError
from jobs.publication import PublishState

pytestmark = pytest.mark.looptime


class Server:
    """Answers the given errors one after another, then takes the post."""

    def __init__(self, *errors: ApiError) -> None:
        self.errors = list(errors)
        self.requests = 0

    async def post(self) -> None:
        self.requests += 1
        if self.errors:
            raise self.errors.pop(0)


def refused(status: int | None, **more: bool) -> ApiError:
    return ApiError(f"HTTP {status}", status=status, retryable=True, **more)


async def test_a_post_is_made_once_and_surely(tmp_path: Path) -> None:
    server, state = Server(), PublishState(tmp_path)
    await state.post_once(server.post)
    await state.post_once(server.post)
    assert server.requests == 1
    assert state.certain


async def test_another_process_knows_what_is_posted_and_uploaded(tmp_path: Path) -> None:
    state = PublishState(tmp_path)
    state.uploaded("recording.mp4", "f1")
    await state.post_once(Server().post)
    again, server = PublishState(tmp_path), Server()
    assert again.file_id("recording.mp4") == "f1"
    await again.post_once(server.post)
    assert (server.requests, again.certain) == (0, True)


@pytest.mark.parametrize(
    "error",
    [refused(None, surely_not_arrived=True), refused(429), refused(502), refused(503)],
    ids=["no connection", "429", "502", "503"],
)
async def test_a_request_that_did_nothing_is_repeated(tmp_path: Path, error: ApiError) -> None:
    server, state = Server(error, error), PublishState(tmp_path)
    await state.post_once(server.post)
    assert (server.requests, state.certain) == (3, True)


@pytest.mark.parametrize("error", [refused(None), refused(500)], ids=["lost answer", "500"])
async def test_a_doubt_counts_as_posted_but_not_as_certain(tmp_path: Path, error: ApiError) -> None:
    server, state = Server(error), PublishState(tmp_path)
    await state.post_once(server.post)
    await PublishState(tmp_path).post_once(server.post)
    assert server.requests == 1
    assert state.posted
    assert not state.certain


async def test_a_refusal_is_an_error_and_can_be_tried_again_later(tmp_path: Path) -> None:
    server, state = Server(refused(403)), PublishState(tmp_path)
    with pytest.raises(ApiError):
        await state.post_once(server.post)
    await PublishState(tmp_path).post_once(server.post)
    assert server.requests == 2


async def test_a_process_that_died_while_asking_leaves_a_doubt(tmp_path: Path) -> None:
    record = {"uploaded": {}, "posting": True, "posted": False, "certain": False}
    (tmp_path / "publication.json").write_text(json.dumps(record))
    server, state = Server(), PublishState(tmp_path)
    assert state.in_doubt
    await state.post_once(server.post)
    assert (server.requests, state.posted, state.certain) == (0, True, False)


@pytest.mark.parametrize("text", ["", "[]", '{"uploaded": 1}'])
def test_a_damaged_record_is_an_error_that_names_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "publication.json").write_text(text)
    with pytest.raises(ValueError, match=r"publication\.json: is damaged"):
        PublishState(tmp_path)


def test_the_record_is_for_this_user_only(tmp_path: Path) -> None:
    PublishState(tmp_path).uploaded("x", "f")
    assert (tmp_path / "publication.json").stat().st_mode & 0o777 == 0o600
