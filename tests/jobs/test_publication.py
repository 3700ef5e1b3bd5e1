"""A post is made once; a doubt never becomes a second one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from callclient.plugin_api import ApiError
from jobs.publication import PublishState

pytestmark = pytest.mark.looptime


class Server:
    """Answers the given errors one after another, then takes the post."""

    def __init__(self, *errors: ApiError, made: bool = False, tells: bool = True) -> None:
        """`made`: the requests that fail make the post all the same."""
        self.errors = list(errors)
        self.requests = 0
        self.posts = 0
        self.made, self.tells = made, tells

    async def post(self) -> None:
        self.requests += 1
        if self.errors:
            self.posts += self.made
            raise self.errors.pop(0)
        self.posts += 1

    async def exists(self, _file_id: str) -> bool:
        if not self.tells:
            raise ApiError("HTTP 403", status=403, retryable=False)
        return self.posts > 0


async def publish(state: PublishState, server: Server) -> None:
    await state.post_once(server.post, file_id="file", exists=server.exists)


def refused(status: int | None, surely_not_arrived: bool = False) -> ApiError:
    retryable = status in (None, 429) or status >= 500
    return ApiError(
        f"HTTP {status}", status=status, retryable=retryable, surely_not_arrived=surely_not_arrived
    )


async def test_a_post_is_made_once_and_surely(tmp_path: Path) -> None:
    server, state = Server(), PublishState(tmp_path)
    await publish(state, server)
    await publish(state, server)
    assert server.requests == 1
    assert state.certain


async def test_another_process_knows_what_is_posted_and_uploaded(tmp_path: Path) -> None:
    state = PublishState(tmp_path)
    state.uploaded("recording.mp4", "f1")
    await publish(state, Server())
    again, server = PublishState(tmp_path), Server()
    assert again.file_id("recording.mp4") == "f1"
    await publish(again, server)
    assert (server.requests, again.certain) == (0, True)


@pytest.mark.parametrize(
    "error",
    [refused(None, surely_not_arrived=True), refused(429), refused(502), refused(503)],
    ids=["no connection", "429", "502", "503"],
)
async def test_a_request_that_did_nothing_is_repeated(tmp_path: Path, error: ApiError) -> None:
    server, state = Server(error, error), PublishState(tmp_path)
    await publish(state, server)
    assert (server.requests, state.certain) == (3, True)


LOST = pytest.mark.parametrize(
    "error",
    [refused(None), refused(500), refused(502), refused(504)],
    ids=["lost answer", "500", "502", "504"],
)


@LOST
async def test_a_post_whose_answer_got_lost_is_found_and_not_made_twice(
    tmp_path: Path, error: ApiError
) -> None:
    server, state = Server(error, made=True), PublishState(tmp_path)
    await publish(state, server)
    assert (server.posts, state.certain) == (1, True)


@LOST
async def test_a_post_that_was_not_made_is_made(tmp_path: Path, error: ApiError) -> None:
    server, state = Server(error, error), PublishState(tmp_path)
    await publish(state, server)
    assert (server.posts, server.requests, state.certain) == (1, 3, True)


@LOST
async def test_where_nobody_can_tell_a_doubt_counts_as_posted_but_not_as_certain(
    tmp_path: Path, error: ApiError
) -> None:
    server, state = Server(error, tells=False), PublishState(tmp_path)
    await publish(state, server)
    await publish(PublishState(tmp_path), server)
    assert server.requests == 1
    assert state.posted
    assert not state.certain


async def test_a_server_that_wants_a_day_of_peace_gets_minutes(tmp_path: Path) -> None:
    """The stop's grace would be over long before."""
    day = ApiError("HTTP 429", status=429, retryable=True, retry_after_s=86_400.0)
    server, state = Server(day), PublishState(tmp_path)
    await publish(state, server)
    assert state.certain
    assert asyncio.get_running_loop().time() == pytest.approx(300.0, abs=1.0)


async def test_a_refusal_is_an_error_and_can_be_tried_again_later(tmp_path: Path) -> None:
    server, state = Server(refused(403)), PublishState(tmp_path)
    with pytest.raises(ApiError):
        await publish(state, server)
    await publish(PublishState(tmp_path), server)
    assert server.requests == 2


@pytest.mark.parametrize("made", [True, False], ids=["after the post", "before it"])
async def test_what_a_process_that_died_while_asking_has_done_is_found_out(
    tmp_path: Path, made: bool
) -> None:
    record = {"uploaded": {}, "posting": True, "posted": False, "certain": False}
    (tmp_path / "publication.json").write_text(json.dumps(record))
    server, state = Server(), PublishState(tmp_path)
    server.posts = int(made)
    assert state.in_doubt
    await publish(state, server)
    assert (server.posts, state.certain) == (1, True)


async def test_a_doubt_that_the_server_will_not_clear_now_stays_one(tmp_path: Path) -> None:
    server, state = Server(refused(500)), PublishState(tmp_path)

    async def unauthorized(_file_id: str) -> bool:
        raise ApiError("HTTP 401", status=401, retryable=False)

    with pytest.raises(ApiError):
        await state.post_once(server.post, file_id="file", exists=unauthorized)
    again = PublishState(tmp_path)
    assert (again.in_doubt, again.posted) == (True, False)
    await publish(again, server)
    assert (server.posts, again.certain) == (1, True)


@pytest.mark.parametrize("text", ["", "[]", '{"uploaded": 1}'])
@pytest.mark.documents("a-damaged-record-of-posts")
def test_a_damaged_record_is_an_error_that_names_it(tmp_path: Path, text: str, documented) -> None:
    (tmp_path / "publication.json").write_text(text)
    with pytest.raises(ValueError, match=r"publication\.json") as damaged:
        PublishState(tmp_path)
    documented("a-damaged-record-of-posts", str(damaged.value))


def test_the_record_is_for_this_user_only(tmp_path: Path) -> None:
    PublishState(tmp_path).uploaded("x", "f")
    assert (tmp_path / "publication.json").stat().st_mode & 0o777 == 0o600
