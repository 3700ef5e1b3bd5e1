"""The door at which a job hands in what others shall transcribe (docs/job-contract.md 6)."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

import httpx

_PART_BYTES: Final = 512 * 1024
"""One request's; a slow link has half a minute for each."""
_RESULT_BYTES: Final = 64 << 20
"""An hour of speech has one or two million."""
_TIMEOUT: Final = httpx.Timeout(10.0, connect=3.0)


class DoorError(Exception):
    """A request failed. The message names method, route and status, never a body."""

    def __init__(self, text: str, *, retryable: bool) -> None:
        super().__init__(text)
        self.retryable = retryable
        """There was no answer, or one that may be another one soon."""


@dataclass(frozen=True, slots=True)
class TrackState:
    """How far a track is."""

    name: str
    state: str
    """`waiting`, `claimed`, `done`, `failed` or `withdrawn`."""
    done: int
    """Pieces that are transcribed."""
    reason: str
    """With `failed`."""


class TasksDoor:
    """A client for one job. Use as an async context manager. Every method raises DoorError."""

    def __init__(self, url: str, token: str, *, ca_file: Path | None = None) -> None:
        """`url`: the job's own, with its path. Raises OSError when `ca_file` cannot be read."""
        context = ssl.create_default_context()
        if ca_file is not None:
            context.load_verify_locations(cafile=ca_file)
        self._url = url
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {token}"},
            timeout=_TIMEOUT,
            verify=context,
            follow_redirects=False,
            trust_env=False,  # a neighbour, whatever proxy leads to the site
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def upload(self, track: str, bundle: IO[bytes]) -> None:
        """Hand in a track's bundle, from its beginning."""
        start_bytes = bundle.seek(0)
        while part := await asyncio.to_thread(bundle.read, _PART_BYTES):
            await self._request(
                "PUT", f"/{track}/audio", params={"start": start_bytes}, content=part
            )
            start_bytes += len(part)

    async def begin(self, tracks: list[tuple[str, int]]) -> None:
        """All bundles are there: names, and numbers of pieces. Idempotent."""
        body = {"tracks": [{"name": name, "pieces": pieces} for name, pieces in tracks]}
        await self._request("POST", "", json=body)

    async def look(self, *, after: int, wait_s: float) -> tuple[int, list[TrackState]]:
        """How far all tracks are; waits until that is newer than version `after`, at most `wait_s`."""
        params = {"after": after, "wait_s": wait_s}
        response = await self._request("GET", "", params=params, timeout=wait_s + 10.0)
        try:
            document = response.json()
            return int(document["version"]), [_state(entry) for entry in document["tracks"]]
        except (ValueError, KeyError, TypeError) as error:
            raise DoorError("GET tasks: the answer has no tracks", retryable=False) from error

    async def result(self, track: str) -> bytes:
        """The result of a track that is `done`."""
        content = (await self._request("GET", f"/{track}/result", timeout=60.0)).content
        if len(content) > _RESULT_BYTES:
            raise DoorError(f"GET result: more than {_RESULT_BYTES} bytes", retryable=False)
        return content

    async def withdraw(self, track: str) -> bool:
        """Nobody shall begin with it any more; False: somebody is at it."""
        response = await self._request("POST", f"/{track}/withdraw", accept=(409,))
        return response.status_code != 409

    async def end(self) -> None:
        """Nothing of it is needed any more. Idempotent."""
        await self._request("DELETE", "", accept=(404, 410))

    async def _request(
        self,
        method: str,
        route: str,
        *,
        params: dict[str, Any] | None = None,
        json: Any = None,
        content: bytes | None = None,
        timeout: float | None = None,
        accept: tuple[int, ...] = (),
    ) -> httpx.Response:
        what = f"{method} tasks{route}"
        try:
            response = await self._http.request(
                method,
                self._url + route,
                params=params,
                json=json,
                content=content,
                timeout=_TIMEOUT if timeout is None else timeout,
            )
        except httpx.HTTPError as error:
            raise DoorError(
                f"{what}: no answer ({type(error).__name__})", retryable=True
            ) from error
        status = response.status_code
        if status >= 300 and status not in accept:
            raise DoorError(f"{what}: refused with HTTP {status}", retryable=status >= 500)
        return response


def _state(entry: Any) -> TrackState:
    return TrackState(
        name=str(entry["name"]),
        state=str(entry["state"]),
        done=int(entry["done"]),
        reason=str(entry.get("reason") or ""),
    )
