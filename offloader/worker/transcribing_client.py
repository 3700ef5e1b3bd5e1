"""What a worker asks of another worker's door about a track: may I, the sound, I am at it, the text."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any, Final

import httpx

from foundation.retry import Backoff, retry
from offloader.backends.remote.wire import DoorKey
from offloader.store.secret_key import Cipher

_PART_BYTES: Final = 512 * 1024
_LIMITS: Final = httpx.Timeout(10.0, connect=2.0)
_PATIENT: Final = Backoff(attempts=8, first_wait_s=0.5, max_wait_s=10.0)
"""Half a minute: an owner that starts again is back by then, and minutes of work are not thrown away."""
_SHORT: Final = Backoff(attempts=4, first_wait_s=0.3, max_wait_s=2.0)
_GONE: Final = (404, 410)
_TAKEN: Final = 409


class OwnerUnreachable(Exception):
    """The owner of a track does not answer, or not as it should; the text says how, with no content."""


class NotWanted(Exception):
    """Nobody needs the track any more, or another worker's claim counts."""


class OwnersDoor:
    """Client of all owners. One per worker; `aclose` in the end. Every method raises OwnerUnreachable."""

    def __init__(self, *, cipher: Cipher, worker: str, tls: ssl.SSLContext | None = None) -> None:
        """`cipher`: whose door key opens them. `worker`: this one's name. `tls`: whom to trust; None: as
        usual."""
        self._worker = worker
        self._http = httpx.AsyncClient(
            auth=DoorKey(cipher),
            timeout=_LIMITS,
            trust_env=False,  # proxies are for the world outside
            verify=tls if tls is not None else True,
        )

    async def claim(self, track_url: str, claim: str) -> int | None:
        """The number of pieces when the track is this worker's now; None: it is another's or nobody's."""
        body = {"claim": claim, "worker": self._worker}
        answer = await self._insist("POST", f"{track_url}/claim", _SHORT, json=body)
        if answer.status_code in (*_GONE, _TAKEN):
            return None
        try:
            return int(answer.json()["pieces"])
        except (ValueError, KeyError, TypeError) as error:
            raise OwnerUnreachable("POST claim: the answer has no pieces") from error

    async def fetch(self, track_url: str, target: Path) -> None:
        """The sound, into a file. Raises NotWanted, OSError."""

        async def attempt() -> None:
            try:
                async with self._http.stream("GET", f"{track_url}/audio") as answer:
                    _check("GET audio", answer, also=_GONE)
                    if answer.status_code in _GONE:
                        raise NotWanted
                    with target.open("wb") as file:
                        async for chunk in answer.aiter_bytes(_PART_BYTES):
                            await asyncio.to_thread(file.write, chunk)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise OwnerUnreachable(f"GET audio: {type(error).__name__}") from error

        await retry(attempt, backoff=_PATIENT, retryable=_may_come_back)

    async def beat(self, track_url: str, claim: str, done: int) -> None:
        """`done` pieces are done. Raises NotWanted."""
        body = {"claim": claim, "done": done}
        answer = await self._once("POST", f"{track_url}/beat", json=body)
        if answer.status_code in _GONE:
            raise NotWanted

    async def hand_in(self, track_url: str, claim: str, result: bytes) -> None:
        """The text. Raises NotWanted."""
        for start in range(0, max(len(result), 1), _PART_BYTES):
            part = result[start : start + _PART_BYTES]
            last = start + len(part) >= len(result)
            params = {"claim": claim, "start": start, "last": str(last).lower()}
            answer = await self._insist(
                "PUT", f"{track_url}/result", _PATIENT, params=params, content=part
            )
            if answer.status_code in _GONE:
                raise NotWanted
            _check("PUT result", answer)

    async def give_up(
        self, track_url: str, claim: str, reason: str, *, ending: bool = False
    ) -> None:
        """It could not be done here, or this worker is `ending`; `reason` for an admin."""
        body = {"claim": claim, "reason": reason, "ending": ending}
        await self._insist("POST", f"{track_url}/failed", _SHORT, json=body)

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def _insist(
        self, method: str, url: str, backoff: Backoff, **options: Any
    ) -> httpx.Response:
        return await retry(
            lambda: self._once(method, url, **options), backoff=backoff, retryable=_may_come_back
        )

    async def _once(self, method: str, url: str, **options: Any) -> httpx.Response:
        what = f"{method} {url.rsplit('/', 1)[-1]}"
        try:
            answer = await self._http.request(method, url, **options)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise OwnerUnreachable(f"{what}: {type(error).__name__}") from error
        return _check(what, answer, also=(*_GONE, _TAKEN))


def _check(what: str, answer: httpx.Response, also: tuple[int, ...] = ()) -> httpx.Response:
    if answer.status_code != httpx.codes.OK and answer.status_code not in also:
        raise OwnerUnreachable(f"{what}: HTTP status {answer.status_code}")
    return answer


def _may_come_back(error: Exception) -> bool:
    return isinstance(error, OwnerUnreachable)
