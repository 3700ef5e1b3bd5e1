"""Verdicts of the step `upload`, each provoked by a proxy's limit or a server's answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from offloader.doctor.network import upload
from offloader.doctor.network.upload import MIB, UPLOAD

Look = Callable[..., Awaitable[Any]]
TOKEN = "a-token-of-this-test"
BOT = "/plugins/com.mattermost.calls/bot/uploads"
CORE = "/api/v4/uploads"
CHANNEL = "c" * 26


@pytest.mark.parametrize(
    ("limit_mib", "code", "verdict"),
    [
        (1, "body_limit_too_small", "failure"),
        (6, "body_limit_small", "warning"),
        (8, "body_limit_passes", "ok"),
    ],
)
async def test_a_proxys_limit_is_found(
    look: Look, proxy: Any, limit_mib: int, code: str, verdict: str
) -> None:
    proxy.body_limit_bytes = limit_mib * MIB
    found = await look(UPLOAD, site_url=proxy.url)
    assert found.verdicts == {code: verdict, "max_file_size_needs_token": "skipped"}
    if verdict != "ok":
        assert "client_max_body_size" in found[code].fix[0]


async def test_what_tries_the_limit_reaches_no_upload(look: Look, site: Any) -> None:
    await look(UPLOAD, site_url=site.url)
    sizes = [(path.removeprefix(BOT)[1:], size) for _, path, size in site.received]
    assert [size for _, size in sizes] == [8 * MIB]
    assert len(sizes[0][0]) == 26  # random: no upload has this id


async def test_a_connection_that_breaks_tells_no_limit(
    look: Look, listening: Callable[..., Awaitable[int]]
) -> None:
    async def hang_up(reader: Any, writer: Any) -> None:
        if await reader.read(1 << 16):
            writer.transport.abort()

    url = f"http://127.0.0.1:{await listening(hang_up)}"
    assert (await look(UPLOAD, site_url=url)).verdicts["body_limit_unclear"] == "note"


@pytest.mark.parametrize(
    ("size", "code", "verdict"),
    [
        (100 * MIB, "max_file_size_fits", "ok"),
        (6 * MIB, "max_file_size_small", "warning"),
        (1 * MIB, "max_file_size_too_small", "failure"),
        (None, "max_file_size_unknown", "skipped"),
    ],
)
async def test_max_file_size_is_judged(
    look: Look, site: Any, size: int | None, code: str, verdict: str
) -> None:
    told = {} if size is None else {"MaxFileSize": str(size)}
    site.answers["/api/v4/config/client"] = (200, told)
    found = await look(UPLOAD, site_url=site.url, token=TOKEN, quick=True)
    assert found.verdicts[code] == verdict
    assert found.verdicts["upload_not_quick"] == "skipped"


async def test_without_a_channel_nothing_is_uploaded(look: Look, site: Any) -> None:
    found = await look(UPLOAD, site_url=site.url, token=TOKEN)
    assert found.verdicts["upload_needs_channel"] == "skipped"


def uploads(site: Any, *, bot: bool = True, data_status: int = 400) -> None:
    """Let the site take uploads: of the bot, or of people alone."""
    path = BOT if bot else CORE
    site.answers[BOT] = (200, {"id": "u" * 26}) if bot else (403, {})
    site.answers[CORE] = (201, {"id": "u" * 26})
    site.answers[f"{path}/{'u' * 26}"] = (data_status, {"id": "…first_part_too_small"})


@pytest.mark.parametrize("bot", [True, False])
async def test_a_part_too_small_to_be_kept_tells_how_fast_it_goes(
    look: Look, site: Any, bot: bool
) -> None:
    uploads(site, bot=bot)
    found = await look(UPLOAD, site_url=site.url, token=TOKEN, channel=CHANNEL)
    assert found.verdicts["upload_works"] == "note"
    assert found["upload_works"].data["bps"] > 0
    sent = [size for method, path, size in site.received if path.endswith("u" * 26)]
    assert sent == [4 * MIB]  # below the 5 MiB from which on a server keeps a first part


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "upload_not_created"), (401, "upload_token_refused"), (500, "upload_not_created")],
)
async def test_an_upload_that_may_not_be_is_a_failure(
    look: Look, site: Any, status: int, code: str
) -> None:
    site.answers[BOT] = (status, {})
    found = await look(UPLOAD, site_url=site.url, token=TOKEN, channel=CHANNEL)
    assert found.verdicts[code] == "failure"


async def test_a_server_that_takes_no_data_is_a_failure(look: Look, site: Any) -> None:
    uploads(site, data_status=500)
    found = await look(UPLOAD, site_url=site.url, token=TOKEN, channel=CHANNEL)
    assert found.verdicts["upload_refused"] == "failure"


async def test_a_connection_that_breaks_in_an_upload_is_a_failure(look: Look, site: Any) -> None:
    def abort(request: Any, size: int) -> tuple[int, dict[str, str]]:
        request.transport.abort()
        return 200, {}

    uploads(site)
    site.answers[f"{BOT}/{'u' * 26}"] = abort
    found = await look(UPLOAD, site_url=site.url, token=TOKEN, channel=CHANNEL)
    assert found.verdicts["upload_breaks"] == "failure"


@pytest.mark.parametrize(
    ("bps", "code"),
    [
        (50e6, "upload_works"),
        (6e6, "upload_slow"),
        (1e6, "upload_slower_than_recording"),
    ],
)
def test_speeds_are_held_against_recordings(bps: float, code: str) -> None:
    assert upload._speed(bps).code == code


@pytest.fixture
def part_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Fewer bytes than else are sent to measure, so that a slow way takes less time here."""
    return lambda size: monkeypatch.setattr(upload, "_PROBE_BYTES", size)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "taken_s", "code"),
    [(MIB // 2, 0.7, "upload_slow"), (MIB // 8, 0.8, "upload_slower_than_recording")],
)
async def test_a_slow_way_is_held_against_recordings(
    look: Look, site: Any, part_of: Callable[[int], None], size: int, taken_s: float, code: str
) -> None:
    part_of(size)
    uploads(site)
    site.upload_takes_s = taken_s
    found = await look(UPLOAD, site_url=site.url, token=TOKEN, channel=CHANNEL)
    assert code in found.codes


async def test_a_server_that_does_not_answer_is_told_after_a_while(
    look: Look,
    listening: Callable[..., Awaitable[int]],
    hurry: Callable[..., None],
) -> None:
    async def swallow(reader: Any, writer: Any) -> None:
        while await reader.read(1 << 16):
            pass

    hurry(upload, _PART_S=0.3)
    url = f"http://127.0.0.1:{await listening(swallow)}"
    assert (await look(UPLOAD, site_url=url)).verdicts["upload_times_out"] == "failure"
