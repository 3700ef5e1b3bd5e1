"""The backend of another host, through its worker's door."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from offloader.backends.base import Artifact, Observation, Rescued
from offloader.backends.remote.wire import (
    MOST_POLLED,
    DoorKey,
    WireError,
    WorkerCard,
    artifact_of,
    observation_of,
    rescue_context,
    seal,
    variables_context,
    workload_document,
    workload_of,
)
from offloader.errors import BackendError, FilesGone, LaunchFailed, WorkloadBusy
from offloader.models import JobType, Workload
from offloader.store.secret_key import Cipher

CONNECT_S: Final = 2.0
ANSWER_S: Final = 5.0
STARTS_S: Final = 30.0
"""For what starts a process or container on the other host, or removes many files."""
PREPARE_S: Final = 125.0
_SILENCE_S: Final = 60.0
"""Between two chunks of a file or of a log that is there."""
_MOST_REQUESTS: Final = 30
_MOST_STREAMS: Final = 100
_KEEP_ALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 3),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)
"""Whoever follows the log of a silent job has to learn within 15 s that the host is gone."""
_CHUNK_BYTES: Final = 256 << 10
_STARTING: Final = ("/backend/salvage", "/backend/retranscribe", "/backend/rescue")
"""What may be refused for good."""


class DoorUnreachable(BackendError):
    """Nobody answered at the door, or not in time: what was asked may have happened or not."""


class RemoteBackend:
    """The `Backend` port without `launch`, `place` and `name`: those are the broker's side of the matter.

    References are those of the worker's own backend. Every method raises `DoorUnreachable` where nobody
    answers, and `BackendError` where the worker's own backend did.
    """

    def __init__(self, url: str, *, cipher: Cipher, tls: ssl.SSLContext | None = None) -> None:
        """`url`: of the door. `tls`: whom to trust, see `trusted`."""
        self.url = url
        self._cipher = cipher
        trust = tls if tls is not None else not url.startswith("http:")
        # Many who follow logs must not keep the others out.
        self._http, self._streams = (
            httpx.AsyncClient(
                base_url=url,
                transport=httpx.AsyncHTTPTransport(
                    verify=trust,
                    limits=httpx.Limits(max_connections=most, keepalive_expiry=30.0),
                    socket_options=_KEEP_ALIVE,
                ),
                trust_env=False,  # proxies are for the world outside
                auth=DoorKey(cipher),
            )
            for most in (_MOST_REQUESTS, _MOST_STREAMS)
        )

    async def card(self) -> WorkerCard:
        """What the worker says of itself."""
        document = await self._asked("GET", "/worker", None)
        try:
            return WorkerCard.of(document)
        except WireError as error:
            raise self._strange(error) from error

    async def prepare(self, runners: Sequence[str]) -> None:
        """See `Backend`."""
        await self._post("/backend/prepare", {"runners": list(runners)}, answer_s=PREPARE_S)

    async def poll(self, workload: Workload) -> Observation:
        """See `Backend`."""
        [found] = await self.poll_many([workload])
        if isinstance(found, BackendError):
            raise found
        return found

    async def poll_many(self, workloads: Sequence[Workload]) -> list[Observation | BackendError]:
        """Look at many at once; in the same order."""
        found: list[Observation | BackendError] = []
        for start in range(0, len(workloads), MOST_POLLED):
            part = workloads[start : start + MOST_POLLED]
            body = {"workloads": [workload_document(workload) for workload in part]}
            answer = await self._post("/backend/poll", body)
            try:
                made = [_look_of(document) for document in answer["observations"]]
            except (KeyError, TypeError, WireError) as error:
                raise self._strange(error) from error
            if len(made) != len(part):
                raise self._strange("another number of observations")
            found += made
        return found

    async def stop(self, workload: Workload, *, grace_s: float) -> None:
        """See `Backend`."""
        await self._post("/backend/stop", {**_names(workload), "grace_s": grace_s})

    async def lower(self, workload: Workload) -> None:
        """See `Backend`."""
        await self._post("/backend/lower", _names(workload))

    async def remove(self, workload: Workload) -> None:
        """See `Backend`."""
        await self._post("/backend/remove", _names(workload), answer_s=STARTS_S)

    async def erase(self, workload: Workload) -> None:
        """See `Backend`."""
        await self._post("/backend/erase", _names(workload), answer_s=STARTS_S)

    async def artifacts(self, workload: Workload) -> Sequence[Artifact]:
        """See `Backend`."""
        answer = await self._post("/backend/artifacts", _names(workload))
        try:
            return [artifact_of(document) for document in answer["artifacts"]]
        except (KeyError, TypeError, WireError) as error:
            raise self._strange(error) from error

    async def adopt(self) -> Mapping[str, Workload]:
        """See `Backend`."""
        answer = await self._post("/backend/adopt", {}, answer_s=STARTS_S)
        try:
            found = answer["workloads"].items()
            return {job_id: workload_of(document) for job_id, document in found}
        except (KeyError, AttributeError, WireError) as error:
            raise self._strange(error) from error

    async def salvage(
        self, workload: Workload, *, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        """See `Backend`; the variables travel sealed for this one workload."""
        return await self._started("/backend/salvage", workload, job_type, variables)

    async def retranscribe(
        self, workload: Workload, *, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        """See `Backend` and `salvage`."""
        return await self._started("/backend/retranscribe", workload, job_type, variables)

    async def rescue(
        self,
        workload: Workload | None,
        *,
        job_id: str,
        job_type: JobType,
        result: str,
        variables: Mapping[str, str],
    ) -> Rescued:
        """See `Backend`. `workload`: as it was on the host that is lost; None: nobody knows."""
        body = {
            "workload": workload_document(workload) if workload is not None else None,
            "job_type": job_type.value,
            "job_id": job_id,
            "result": result,
            "sealed_variables": seal(
                self._cipher, variables, context=rescue_context(job_id, result)
            ),
        }
        answer = await self._post("/backend/rescue", body, answer_s=STARTS_S)
        try:
            return Rescued(workload_of(answer["workload"]), workload_of(answer["attempt"]))
        except (KeyError, WireError) as error:
            raise self._strange(error) from error

    async def logs(
        self, workload: Workload, *, tail_bytes: int | None = None
    ) -> AsyncIterator[bytes]:
        """See `Backend`."""
        body = {**_names(workload), "tail_bytes": tail_bytes}
        async with aclosing(self._stream("/backend/logs", body)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def follow(self, workload: Workload) -> AsyncIterator[bytes]:
        """See `Backend`."""
        stream = self._stream("/backend/follow", _names(workload), silence_s=None)
        async with aclosing(stream) as chunks:
            async for chunk in chunks:
                yield chunk

    async def read_artifact(
        self, workload: Workload, name: str, *, start: int = 0
    ) -> AsyncIterator[bytes]:
        """See `Backend`."""
        body = {**_names(workload), "name": name, "start": start}
        stream = self._stream("/backend/artifact", body, begins_s=STARTS_S)
        async with aclosing(stream) as chunks:
            async for chunk in chunks:
                yield chunk

    async def aclose(self) -> None:
        """Let go of the connections. Idempotent."""
        await self._http.aclose()
        await self._streams.aclose()

    async def _started(
        self, path: str, workload: Workload, job_type: JobType, variables: Mapping[str, str]
    ) -> Workload:
        sealed = seal(self._cipher, variables, context=variables_context(workload))
        body = {**_names(workload), "job_type": job_type.value, "sealed_variables": sealed}
        answer = await self._post(path, body, answer_s=STARTS_S)
        try:
            return workload_of(answer["workload"])
        except (KeyError, WireError) as error:
            raise self._strange(error) from error

    async def _post(
        self, path: str, body: Mapping[str, Any], *, answer_s: float = ANSWER_S
    ) -> dict[str, Any]:
        return await self._asked("POST", path, body, answer_s=answer_s)

    async def _asked(
        self, method: str, path: str, body: Mapping[str, Any] | None, *, answer_s: float = ANSWER_S
    ) -> dict[str, Any]:
        limits = httpx.Timeout(answer_s, connect=CONNECT_S)
        async with self._talking():
            answer = await self._http.request(method, path, json=body, timeout=limits)
        if answer.status_code != httpx.codes.OK:
            raise self._refusal(answer)
        try:
            document = answer.json()
        except ValueError as error:
            raise self._strange(error) from error
        if not isinstance(document, dict):
            raise self._strange("no object")
        return document

    async def _stream(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        begins_s: float = ANSWER_S,
        silence_s: float | None = _SILENCE_S,
    ) -> AsyncGenerator[bytes, None]:
        limits = httpx.Timeout(ANSWER_S, connect=CONNECT_S, read=silence_s)
        async with self._talking(), AsyncExitStack() as stack:
            try:
                # The beginning of an answer comes at once, or its host hangs.
                async with asyncio.timeout(CONNECT_S + begins_s):
                    answer = await stack.enter_async_context(
                        self._streams.stream("POST", path, json=body, timeout=limits)
                    )
            except TimeoutError as error:
                raise DoorUnreachable(
                    f"the worker at {self.url} does not answer in time"
                ) from error
            if answer.status_code != httpx.codes.OK:
                await answer.aread()
                raise self._refusal(answer)
            async for chunk in answer.aiter_bytes():
                for start in range(0, len(chunk), _CHUNK_BYTES):
                    yield chunk[start : start + _CHUNK_BYTES]

    @asynccontextmanager
    async def _talking(self) -> AsyncIterator[None]:
        try:
            yield
        except httpx.PoolTimeout as error:
            text = f"too many are asking the worker at {self.url}: try again later"
            raise BackendError(text) from error
        except httpx.TimeoutException as error:
            kind = type(error).__name__
            raise DoorUnreachable(
                f"the worker at {self.url} does not answer in time ({kind})"
            ) from error
        except (httpx.TransportError, httpx.StreamError, OSError) as error:
            text = str(error) or type(error).__name__
            raise DoorUnreachable(f"the worker at {self.url} cannot be reached: {text}") from error

    def _refusal(self, answer: httpx.Response) -> BackendError:
        try:
            text = str(answer.json()["error"])
        except (ValueError, KeyError, TypeError):
            text = f"HTTP status {answer.status_code}"
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            return BackendError(
                f"the worker at {self.url} refuses this service: both need the same OFFLOADER_SECRET_KEY "
                "or key file"
            )
        if answer.request.url.path not in _STARTING:
            return BackendError(text)
        kinds: Mapping[int, type[BackendError]] = {
            409: WorkloadBusy,
            410: FilesGone,
            422: LaunchFailed,
        }
        return kinds.get(answer.status_code, BackendError)(text)

    def _strange(self, what: object) -> BackendError:
        return BackendError(f"the worker at {self.url} gives a strange answer: {what}")


def trusted(ca_cert_file: Path | None) -> ssl.SSLContext:
    """Whom to trust behind https: the system's authorities and those of the file. Blocks.

    Raises:
        BackendError: the file cannot be used.
    """
    context = ssl.create_default_context()
    if ca_cert_file is not None:
        try:
            context.load_verify_locations(ca_cert_file)
        except OSError as error:
            raise BackendError(
                f"jobs.ca_cert_file: {ca_cert_file} cannot be used: {error.strerror or error}"
            ) from error
    return context


def _names(workload: Workload) -> dict[str, Any]:
    return {"workload": workload_document(workload)}


def _look_of(document: Mapping[str, Any]) -> Observation | BackendError:
    if "error" in document:
        return BackendError(str(document["error"]))
    return observation_of(document)
