"""Step `upload`: would a recording get through? Body limits on the way, `MaxFileSize`, and how fast it goes.

Nothing is posted, and no data stays. Sizes are tried on an upload that does not exist: whatever stands before
the server refuses what is too large without looking further. The speed is measured with a first part that is
too small to be kept: the server removes it and says so (calls-plugin.md 5.3).
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx

from offloader.doctor.finding import Finding, failure, note, ok, skipped, warning
from offloader.doctor.network.plugin import TOKEN_CAUSE
from offloader.doctor.network.way import PLUGIN_PATH, Way, json_object, reason_of, unreached
from offloader.doctor.step import Context, Step, aside

MIB: Final = 1 << 20
FIRST_PART_BYTES: Final = 5 * MIB
"""The server refuses less for the first of several parts."""
PART_BYTES: Final = 8 * MIB
"""What jobs begin with."""
_PROBE_BYTES: Final = 4 * MIB
"""Of the part whose time is taken: too small to be kept."""
_CHUNK_BYTES: Final = 64 * 1024
_PART_S: Final = 25.0
_KBITS: Final = {"medium": 1564, "high": 2564}
"""Recordings, picture and sound (calls-plugin.md 6.3)."""
_BOT, _CORE = f"{PLUGIN_PATH}/bot/uploads", "/api/v4/uploads"


async def look(context: Context) -> Sequence[Finding]:
    """Limits first; then, with a token and a channel, the real thing."""
    way = Way.of(context)
    if (missing := await unreached(way)) is not None or way is None:
        return [missing] if missing else []
    found = [await _body_limit(way)]
    if not context.token:
        cause = "MaxFileSize is told to users only: --token-file"
        return [*found, skipped("max_file_size_needs_token", "MaxFileSize", cause)]
    found += await _max_file_size(way, context.token)
    if context.quick:
        return [*found, skipped("upload_not_quick", "upload", "--quick leaves it out")]
    return [*found, await _real_upload(context, way)]


async def _body_limit(way: Way) -> Finding:
    """What of 8 and 5 MiB passes; 413 comes from a proxy, anything else from Mattermost."""
    refused: list[int] = []
    for size in (PART_BYTES, FIRST_PART_BYTES):
        try:
            async with way.http(timeout_s=_PART_S) as http:
                sent = await _send(http, f"{_BOT}/{secrets.token_hex(13)}", size)
        except httpx.TimeoutException:
            return _too_slow(way, size)
        except httpx.HTTPError:
            return note(
                "body_limit_unclear",
                "request body",
                f"closed while {size // MIB} MiB were sent",
                cause="a limit that is not told, or a server that had seen enough: a real upload tells, with "
                "--token-file and --channel ID",
            )
        if sent.status != httpx.codes.REQUEST_ENTITY_TOO_LARGE:
            return _passes(way, size, refused)
        refused.append(size)
    return failure(
        "body_limit_too_small",
        "request body",
        f"HTTP 413 for {FIRST_PART_BYTES // MIB} MiB",
        cause="a proxy allows less than the 5 MiB that the first part of every longer recording needs",
        fix=_limit_fix(),
        data={"refused_bytes": refused},
    )


def _passes(way: Way, size: int, refused: list[int]) -> Finding:
    if refused:
        return warning(
            "body_limit_small",
            "request body",
            f"{size // MIB} MiB pass, {refused[0] // MIB} MiB do not (HTTP 413)",
            cause="a proxy allows little: recordings go up in more and smaller parts, after a refusal each",
            fix=_limit_fix(),
            data={"refused_bytes": refused},
        )
    return ok("body_limit_passes", "request body", f"{size // MIB} MiB pass")


def _limit_fix() -> tuple[str, ...]:
    return (
        "client_max_body_size 100M;   # nginx, in the server of Mattermost",
        "LimitRequestBody 104857600   # Apache",
    )


async def _max_file_size(way: Way, token: str) -> list[Finding]:
    """`FileSettings.MaxFileSize`, as every client is told."""
    try:
        async with way.http(token=token) as http:
            response = await http.get("/api/v4/config/client", params={"format": "old"})
    except httpx.HTTPError as error:
        return [skipped("max_file_size_unknown", "MaxFileSize", reason_of(error))]
    config = json_object(response)
    try:
        size = int(config["MaxFileSize"])
    except (KeyError, TypeError, ValueError):
        cause = f"HTTP {response.status_code} without it"
        return [skipped("max_file_size_unknown", "MaxFileSize", cause)]
    value = f"{size / MIB:.1f} MiB"
    fix = (
        "System Console > Environment > File Storage > Maximum File Size: 100 MB or more",
        "MM_FILESETTINGS_MAXFILESIZE=104857600",
    )
    if size < FIRST_PART_BYTES:
        cause = "below the 5 MiB that the server itself wants of a first part: no longer recording passes"
        return [failure("max_file_size_too_small", "MaxFileSize", value, cause=cause, fix=fix)]
    if size < PART_BYTES:
        cause = "below the 8 MiB of a job's parts: the server cuts each one, and it is asked where to go on"
        return [warning("max_file_size_small", "MaxFileSize", value, cause=cause, fix=fix)]
    return [ok("max_file_size_fits", "MaxFileSize", value, data={"bytes": size})]


async def _real_upload(context: Context, way: Way) -> Finding:
    if not context.channel:
        cause = "an upload belongs to a channel; nothing is posted in it: --channel ID"
        return skipped("upload_needs_channel", "upload", cause)
    try:
        async with way.http(token=context.token, timeout_s=_PART_S) as http:
            upload = await _created(http, context.channel)
            if isinstance(upload, Finding):
                return upload
            began_s = time.monotonic()
            sent = await _send(http, upload, _PROBE_BYTES)
            took_s = time.monotonic() - began_s
    except httpx.TimeoutException:
        return _too_slow(way, _PROBE_BYTES)
    except httpx.HTTPError as error:
        return failure(
            "upload_breaks",
            "upload",
            reason_of(error),
            cause="the connection breaks while data is sent: a proxy with a short time-out or a limit",
            fix=("client_body_timeout 60s; proxy_read_timeout 300s;   # nginx", *_limit_fix()),
        )
    if sent.status == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
        return failure(
            "upload_refused",
            "upload",
            f"HTTP 413 for {_PROBE_BYTES // MIB} MiB",
            cause="a proxy allows less than 4 MiB",
            fix=_limit_fix(),
        )
    if sent.status != httpx.codes.BAD_REQUEST:
        return failure(
            "upload_refused",
            "upload",
            f"HTTP {sent.status}",
            cause="the server takes no data: its file storage is full, gone or not writable",
            fix=("System Console > Environment > File Storage > Test Connection",),
        )
    return await aside(lambda: _speed(_PROBE_BYTES * 8 / max(took_s, 1e-6)))


async def _created(http: httpx.AsyncClient, channel: str) -> str | Finding:
    """The path to send data to: by the bot's route, or a person's."""
    body = {
        "channel_id": channel,
        "filename": "offloader-doctor.bin",
        "file_size": 2 * FIRST_PART_BYTES,
    }
    path = _BOT
    response = await http.post(path, json=body)
    if response.status_code == httpx.codes.FORBIDDEN:  # no bot's token
        path = _CORE
        response = await http.post(path, json=body)
    upload_id = json_object(response).get("id")
    if response.status_code < 300 and isinstance(upload_id, str):
        return f"{path}/{upload_id}"
    status = response.status_code
    if status == httpx.codes.UNAUTHORIZED:
        return failure(
            "upload_token_refused",
            "upload",
            "HTTP 401",
            cause=TOKEN_CAUSE,
            fix=("--token-file FILE",),
        )
    return failure(
        "upload_not_created",
        "upload",
        f"HTTP {status}",
        cause=_why_not(status),
        fix=(
            "offloader doctor --channel ID   # Channel > View Info shows the ID of one you are in",
            "System Console > Site Configuration > File Sharing and Downloads: allow it",
        ),
    )


def _why_not(status: int) -> str:
    if status in (400, 403, 404):
        return "this user may not upload there: another channel's ID, an archived channel, or files are off"
    return "the server makes no upload: file sharing is off, or its storage or database fails"


@dataclass(frozen=True, slots=True)
class _Sent:
    status: int
    document: Any


async def _send(http: httpx.AsyncClient, path: str, size: int) -> _Sent:
    """Raises httpx.HTTPError."""
    response = await http.post(
        path,
        content=_noise(size),
        headers={"Content-Length": str(size), "Content-Type": "application/octet-stream"},
    )
    return _Sent(response.status_code, json_object(response))


async def _noise(size: int) -> AsyncIterator[bytes]:
    """What no tunnel can compress."""
    chunk = os.urandom(_CHUNK_BYTES)
    for at in range(0, size, _CHUNK_BYTES):
        yield chunk[: min(_CHUNK_BYTES, size - at)]


def _speed(bps: float) -> Finding:
    value = f"{bps / 1e6:.1f} Mbit/s; no data is kept"
    data = {"bps": round(bps)}
    minutes = {name: 60 * kbits * 1000 / bps for name, kbits in _KBITS.items()}
    told = ", ".join(f"{name} quality {_lasting(taken)}" for name, taken in minutes.items())
    if minutes["medium"] > 60:
        return failure(
            "upload_slower_than_recording",
            "upload",
            value,
            cause=f"an hour's recording takes longer than an hour to upload ({told})",
            fix=("put this service nearer to Mattermost",),
            data=data,
            plugin={"RecordingQuality": "low"},
        )
    if minutes["high"] > 20:
        return warning(
            "upload_slow",
            "upload",
            value,
            cause=f"an hour's recording takes long to upload: {told}",
            fix=("put this service nearer to Mattermost, or record in a lower quality",),
            data=data,
        )
    return note("upload_works", "upload", value, cause=f"an hour's recording: {told}", data=data)


def _lasting(minutes: float) -> str:
    return f"{minutes:.0f} min" if minutes >= 2 else f"{max(minutes * 60, 1):.0f} s"


def _too_slow(way: Way, size: int) -> Finding:
    return failure(
        "upload_times_out",
        "upload",
        f"{size // MIB} MiB not answered within {_PART_S:g} s",
        cause="the way to Mattermost is slower than a recording, or a proxy holds the request",
        fix=(f"curl -v -T FILE {way.url}/api/v4/uploads/none   # how fast does it go?",),
    )


UPLOAD: Final = Step("upload", "Upload of recordings", look, timeout_s=120)
