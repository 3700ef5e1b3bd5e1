"""The Kubernetes API by the official asyncio client: plain objects in and out, with retries and time-outs.

Its generated classes are not used: they would turn every object of every watch into Python objects, and
refuse values that are newer than they are.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

from foundation.logs import get_logger
from offloader.backends.kubernetes.connection import Connection
from offloader.errors import BackendError

_REQUEST_S: Final = 10.0
_LIST_S: Final = 30.0
"""Thousands of Jobs take their time."""
_CONNECT_S: Final = 5.0
_GIVE_UP_S: Final = 15.0
"""For one operation with its retries: the plugin waits a minute for a job in all."""
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_AGAIN: Final = frozenset({429, 500, 502, 503, 504})
_LONGEST_LINE_BYTES: Final = 16 << 20
_COMPLAINT_BYTES: Final = 64 << 10
_MUCH_JSON_BYTES: Final = 1 << 20
"""More is parsed beside the event loop."""
JOBS: Final = "/apis/batch/v1/namespaces/{namespace}/jobs"
PODS: Final = "/api/v1/namespaces/{namespace}/pods"
SECRETS: Final = "/api/v1/namespaces/{namespace}/secrets"

log = get_logger()


class ApiError(BackendError):
    """The API server refused, or could not be asked (status 0)."""

    def __init__(self, text: str, *, status: int = 0) -> None:
        super().__init__(text)
        self.status = status

    @property
    def passing(self) -> bool:
        """A later attempt may go well: no answer, overload, a restart."""
        return self.status == 0 or self.status in _AGAIN


class KubernetesApi:
    """One namespace of one cluster. Connects with the first request."""

    def __init__(self, *, kubeconfig: str, namespace: str, environ: Mapping[str, str]) -> None:
        self._kubeconfig = kubeconfig
        self._in_cluster = not kubeconfig and "KUBERNETES_SERVICE_HOST" in environ
        self._namespace = namespace
        self._client: Any = None
        self._opening = asyncio.Lock()
        self._server_time: tuple[datetime, float] | None = None
        """As an answer told it, and when that came."""

    def server_now(self) -> datetime | None:
        """The time by the server's clock, to the second: what its objects' times are compared with. None:
        there was no answer yet."""
        if self._server_time is None:
            return None
        told, at_s = self._server_time
        return told + timedelta(seconds=asyncio.get_running_loop().time() - at_s)

    async def address(self) -> str:
        """API server and namespace: the same for every service that works there."""
        client = await self._opened()
        return f"{client.configuration.host} {self._namespace}"

    async def get(self, collection: str, name: str) -> dict[str, Any] | None:
        """One object; None: there is none."""
        try:
            return await self._json("GET", f"{collection}/{name}")
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def list(
        self, collection: str, *, selector: str, limit: int = 0, timeout_s: float = _LIST_S
    ) -> dict[str, Any]:
        """A list object, with its resourceVersion. Asked for once: who lists goes on in a way of its own."""
        query = {"labelSelector": selector} | ({"limit": str(limit)} if limit else {})
        return await self._json("GET", collection, query=query, once_s=timeout_s)

    async def create(
        self,
        collection: str,
        body: Mapping[str, Any],
        *,
        is_mine: Callable[[Mapping[str, Any]], bool] | None = None,
    ) -> dict[str, Any]:
        """Create once, also when the answer to the first attempt was lost: `is_mine` knows the object again.

        A conflict without such an object is one over a quota, which passes.

        Raises:
            ApiError: with status 409: an object of that name is there, and not known to be ours.
        """
        give_up_s = asyncio.get_running_loop().time() + _GIVE_UP_S
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return await self._json("POST", collection, body=body)
            except ApiError as error:
                if error.status != 409 or is_mine is None:
                    raise
                found = await self.get(collection, body["metadata"]["name"])
                if found is not None and is_mine(found):
                    return found
                if found is not None or asyncio.get_running_loop().time() + pause_s > give_up_s:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def patch(
        self, collection: str, name: str, body: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """JSON merge patch, RFC 7386; None: there is no such object."""
        try:
            return await self._json("PATCH", f"{collection}/{name}", body=body)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    async def delete(
        self, collection: str, name: str, options: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Delete, with a DeleteOptions' fields; the answer, or None: it was gone already."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", **options}
        try:
            return await self._json("DELETE", f"{collection}/{name}", body=body)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    @asynccontextmanager
    async def stream(
        self, path: str, *, query: Mapping[str, str], idle_s: float, total_s: float | None = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """An answer as it comes; silence of more than `idle_s` seconds ends it with an error.

        Raises:
            ApiError: refused, broken off, silent for too long.
        """
        import aiohttp

        timeout = aiohttp.ClientTimeout(
            total=total_s, sock_connect=_CONNECT_S, sock_read=max(idle_s, 0.1)
        )
        with _explained(path):
            response = await self._send("GET", path, query=query, body=None, timeout=timeout)
        try:
            if response.status != 200:
                with _explained(path):
                    raise _refusal(path, response.status, await _beginning(response))
            yield _chunks(path, response)
        finally:
            response.close()

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        once_s: float | None = None,
    ) -> dict[str, Any]:
        """One request, repeated while the server is overloaded, restarts or does not answer; with `once_s`
        only one, of that many seconds."""
        give_up_s = asyncio.get_running_loop().time() + (0.0 if once_s else _GIVE_UP_S)
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return await self._once(method, path, query, body, once_s or _REQUEST_S)
            except _Passing as failure:
                wait_s = max(failure.after_s, pause_s * random.uniform(0.5, 1.0))
                if asyncio.get_running_loop().time() + wait_s > give_up_s:
                    raise failure.error from None
                log.debug("kubernetes.again", path=path, error=str(failure.error))
                await asyncio.sleep(wait_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _once(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        timeout_s: float,
    ) -> dict[str, Any]:
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(timeout_s, _CONNECT_S))
        try:
            with _explained(path):
                response = await self._send(method, path, query=query, body=body, timeout=timeout)
                async with response:
                    content = await response.read()
        except ApiError as error:
            raise _Passing(error) from error
        if 200 <= response.status < 300:
            try:
                if len(content) > _MUCH_JSON_BYTES:
                    document = await asyncio.to_thread(json.loads, content)
                else:
                    document = json.loads(content)
            except ValueError:
                document = None
            if not isinstance(document, dict):
                raise ApiError(
                    f"what answers as the Kubernetes API sends no JSON object for {path}"
                )
            return document
        refusal = _refusal(path, response.status, content)
        conflict = response.status == 409 and method == "PATCH"
        if response.status in _AGAIN or conflict:
            after = response.headers.get("Retry-After", "")
            raise _Passing(refusal, after_s=float(after) if after.isdigit() else 0.0)
        raise refusal

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        timeout: Any,
    ) -> Any:
        client = await self._opened()
        headers = {"Accept": "application/json"}
        if method == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        response = await client.call_api(
            path.replace("{namespace}", self._namespace),
            method,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _request_timeout=timeout,
        )
        with suppress(ValueError, TypeError):
            told = parsedate_to_datetime(response.headers.get("Date", ""))
            self._server_time = told.astimezone(UTC), asyncio.get_running_loop().time()
        return response

    async def _opened(self) -> Any:
        async with self._opening:
            if self._client is None:
                connection = Connection(self._kubeconfig, self._in_cluster, self._namespace)
                self._client, self._namespace = await connection.open()
            return self._client


class _Passing(Exception):
    """Worth another attempt."""

    def __init__(self, error: ApiError, *, after_s: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.after_s = after_s


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """What the HTTP client raises becomes an ApiError."""
    import aiohttp

    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        text = str(error) or type(error).__name__
        where = path.replace("/namespaces/{namespace}", "")
        raise ApiError(f"the Kubernetes API cannot be reached ({where}): {text}") from error


async def lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks as lines without their ends; what is left at the end too.

    Raises:
        ApiError: a line is longer than anything that Kubernetes stores.
    """
    gathered = bytearray()
    async for chunk in chunks:
        gathered += chunk
        *whole, rest = gathered.split(b"\n")
        for line in whole:
            yield bytes(line)
        gathered = rest
        if len(gathered) > _LONGEST_LINE_BYTES:
            raise ApiError("the Kubernetes API sent a line without an end")
    if gathered:
        yield bytes(gathered)


async def _chunks(path: str, response: Any) -> AsyncIterator[bytes]:
    with _explained(path):
        async for chunk in response.content.iter_any():
            yield chunk


async def _beginning(response: Any) -> bytes:
    return bytes(await response.content.read(_COMPLAINT_BYTES))


def _refusal(path: str, status: int, content: bytes) -> ApiError:
    """With the server's own message, which names the right that is missing, the quota, the field."""
    message = ""
    with suppress(ValueError, AttributeError):
        message = str(json.loads(content).get("message") or "")
    where = path.replace("/namespaces/{namespace}", "")
    text = message or f"HTTP {status} from {where}"
    advice = {
        401: ": the service account's token is not accepted",
        403: ": the service's Role lacks this right (docs/kubernetes.md)",
    }.get(status, "")
    return ApiError(f"Kubernetes: {text}{advice}", status=status)
