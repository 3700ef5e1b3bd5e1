"""The call's thread: what the jobs have posted in the stand-in, and the files of it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import httpx

_TIMEOUT_S: Final = 30.0


class ThreadError(Exception):
    """The stand-in's thread cannot be read."""


@dataclass(frozen=True, slots=True)
class Results:
    """What the jobs have published; None: not yet."""

    recording_file_id: str | None = None
    vtt_file_id: str | None = None
    text_file_id: str | None = None
    recording_posts: int = 0
    transcription_posts: int = 0

    @property
    def complete(self) -> bool:
        return None not in (self.recording_file_id, self.vtt_file_id, self.text_file_id)


class Thread:
    """Reads through the stand-in's own routes for tests."""

    def __init__(self, site_url: str, channel_id: str, *, ca_file: Path | None = None) -> None:
        self._channel_id = channel_id
        self._http = _client(site_url, ca_file)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def results(self) -> Results:
        """What the jobs have posted so far."""
        return read_results((await self._get(f"/testbed/posts/{self._channel_id}")).json())

    async def files(self) -> list[tuple[str, str]]:
        """Id and name of every file that was posted, oldest first."""
        posts = (await self._get(f"/testbed/posts/{self._channel_id}")).json()
        return [(file["id"], file["name"]) for post in posts for file in post["files"]]

    async def download(self, file_id: str, target: Path) -> None:
        """Save a posted file."""
        content = (await self._get(f"/testbed/files/{file_id}")).content
        await asyncio.to_thread(target.write_bytes, content)

    async def _get(self, route: str) -> httpx.Response:
        try:
            response = await self._http.get(route)
            return response.raise_for_status()
        except httpx.HTTPError as error:
            raise ThreadError(f"GET {route}: {error}") from error


def _client(site_url: str, ca_file: Path | None) -> httpx.AsyncClient:
    trusted = ssl.create_default_context(cafile=ca_file)
    return httpx.AsyncClient(base_url=site_url, timeout=_TIMEOUT_S, trust_env=False, verify=trusted)


async def lose_upload_part(site_url: str, *, ca_file: Path | None = None) -> None:
    """Let the stand-in lose the content of the next upload part.

    Raises:
        ThreadError: it did not take the wish.
    """
    async with _client(site_url, ca_file) as http:
        try:
            answer = await http.post("/testbed/faults", json={"damage_upload_parts": 1})
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise ThreadError(f"POST /testbed/faults: {error}") from error


def read_results(posts: Sequence[Mapping[str, Any]]) -> Results:
    """The jobs' posts among those of a thread (calls-plugin.md 5.4, 5.5)."""
    recording_file = vtt = text = None
    recordings = transcriptions = 0
    for post in posts:
        match post.get("type"):
            case "custom_calls_recording":
                recordings += 1
                recording_file = post["file_ids"][0]
            case "custom_calls_transcription":
                transcriptions += 1
                text = post["file_ids"][0]
                vtt = post["props"]["captions"][0]["file_id"]
    return Results(recording_file, vtt, text, recordings, transcriptions)
