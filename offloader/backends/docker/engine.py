"""The connection to a Docker Engine: the SDK's blocking client, in threads of its own, with time-outs.

What the SDK cannot do with a time-out or without reading everything into memory (archives, logs, pulls) goes
over its HTTP session directly. A connection is made when it is first needed and again after it failed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException, NotFound
from docker.transport.unixconn import UnixHTTPConnection

from offloader.errors import BackendError

REQUEST_TIMEOUT_S: Final = 60.0
"""The engine answers in milliseconds; a loaded host needs some seconds to start a container."""
_THREADS: Final = 16
_KNOCK_TIMEOUT_S: Final = 5.0
T = TypeVar("T")


class EngineError(BackendError):
    """The engine refused, or could not be reached (`status` 0)."""

    def __init__(self, text: str, *, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class Engine:
    """One per backend. `call` runs a function in a thread; everything else is for such functions."""

    def __init__(self, *, host: str, environ: Mapping[str, str]) -> None:
        self.address = host or environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        self._environ = {**environ, "DOCKER_HOST": self.address}
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="docker")
        self._closed = False
        self._connecting = threading.Lock()
        self._client: docker.APIClient | None = None

    async def call(self, function: Callable[[Engine], T], *, timeout_s: float | None = None) -> T:
        """Run `function` in a thread. Cancelled or timed out, the function still runs to its end.

        Raises:
            EngineError: also for a time-out.
        """
        if self._closed:
            raise EngineError(f"the connection to {self.address} is closed")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s or 4 * REQUEST_TIMEOUT_S):
                return await loop.run_in_executor(self._threads, self._translated, function)
        except TimeoutError:
            raise EngineError(f"the Docker Engine at {self.address} takes too long") from None

    def close(self) -> None:
        """Let go; calls under way end by themselves. Idempotent."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._disconnect(wait=False)

    @property
    def client(self) -> docker.APIClient:
        """The SDK's client. Blocks."""
        with self._connecting:
            if self._client is None:
                options = docker.utils.kwargs_from_env(self._environ)
                self._client = docker.APIClient(
                    version="auto", timeout=REQUEST_TIMEOUT_S, **options
                )
            return self._client

    def url(self, path: str) -> str:
        """For requests that the SDK has no method for."""
        return f"{self.client.base_url}/v{self.client.api_version}{path}"

    def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> requests.Response:
        """An answer whose body is still to be read, under `timeout_s` per read; close it.

        Raises:
            APIError, requests.RequestException: as the SDK does; `call` translates them.
        """
        response: requests.Response = self.client.request(
            method,
            self.url(path),
            params=params,
            # The engine would compress archives, which costs more than a local socket saves.
            headers={"Accept-Encoding": "identity", **(headers or {})},
            stream=True,
            timeout=timeout_s,
        )
        if response.status_code >= 400:
            with response:
                raise _api_error(response)
        return response

    @contextmanager
    def archive(self, container: str, path: str) -> Iterator[requests.Response]:
        """A tar stream of `path` inside a container, running or not."""
        response = self.stream("GET", f"/containers/{container}/archive", params={"path": path})
        with response:
            yield response

    def path_status(self, container: str, path: str) -> Mapping[str, Any] | None:
        """`name`, `size`, `mode` (Go's os.FileMode) of a path inside a container; None: no such path."""
        response = self.client.head(
            self.url(f"/containers/{container}/archive"),
            params={"path": path},
            timeout=REQUEST_TIMEOUT_S,
        )
        if response.status_code == requests.codes.not_found:
            return None
        if response.status_code >= 400:
            raise _api_error(response)
        encoded = response.headers["X-Docker-Container-Path-Stat"]
        status: Mapping[str, Any] = json.loads(base64.b64decode(encoded))
        return status

    def container(self, name: str) -> Mapping[str, Any] | None:
        """What the engine knows of a container, or None."""
        return _or_none(self.client.inspect_container, name)

    def volume(self, name: str) -> Mapping[str, Any] | None:
        """What the engine knows of a volume, or None."""
        return _or_none(self.client.inspect_volume, name)

    def image(self, name: str) -> Mapping[str, Any] | None:
        """What the engine knows of an image, or None."""
        return _or_none(self.client.inspect_image, name)

    def _disconnect(self, *, wait: bool = True) -> None:
        # Who closes is the event loop: it must not wait for an engine that takes a connection and hangs.
        if not self._connecting.acquire(blocking=wait):
            return
        try:
            client, self._client = self._client, None
        finally:
            self._connecting.release()
        if client is not None:
            client.close()

    def _translated(self, function: Callable[[Engine], T]) -> T:
        try:
            _knock(self.address)
            return function(self)
        except APIError as error:
            status = error.response.status_code if error.response is not None else 0
            raise EngineError(f"docker: {error.explanation or error}", status=status) from error
        except (
            DockerException,
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            OSError,
        ) as error:
            self._disconnect()
            _close_left_open(error)
            raise EngineError(
                f"the Docker Engine at {self.address} cannot be used: {_reason(error)}; is it running, and "
                "may this service's user reach it (group docker)?"
            ) from error


def _knock(address: str) -> None:
    """Raises OSError when nobody listens on a local socket, or it takes no connections in some seconds."""
    if address.startswith("unix:"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_KNOCK_TIMEOUT_S)
            probe.connect(re.sub("^unix:/*", "/", address))


def _close_left_open(error: BaseException) -> None:
    """The SDK leaves the local socket open that it could not connect: nothing but its frame knows it."""
    seen: BaseException | None = error
    while seen is not None:
        for frame, _ in traceback.walk_tb(seen.__traceback__):
            if frame.f_code is UnixHTTPConnection.connect.__code__ and "sock" in frame.f_locals:
                frame.f_locals["sock"].close()
        seen = seen.__cause__ or seen.__context__


def _or_none(inspect: Callable[[str], Any], name: str) -> Mapping[str, Any] | None:
    try:
        found: Mapping[str, Any] = inspect(name)
    except NotFound:
        return None
    return found


def _api_error(response: requests.Response) -> APIError:
    try:
        text = str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        text = f"HTTP {response.status_code}"
    return APIError(text, response=response, explanation=text)


def _reason(error: BaseException) -> str:
    """The innermost cause, in words."""
    seen: BaseException = error
    while (deeper := seen.__cause__ or seen.__context__) is not None:
        seen = deeper
    return getattr(seen, "strerror", None) or str(seen) or type(seen).__name__
