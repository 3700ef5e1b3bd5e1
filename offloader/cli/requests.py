"""Asks the running service, and turns whatever goes wrong into one sentence."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote, urlencode

from offloader.cli.doors import CONNECT_TIMEOUT_S, Door
from offloader.cli.failures import Refused, ServiceUnreachable

_ANSWER_TIMEOUT_S: Final = 30.0
_CHUNK_BYTES: Final = 64 * 1024


class ServiceClient:
    """Every request opens a connection of its own; commands make few."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def get(self, *path: str, query: Mapping[str, str | None] | None = None) -> Any:
        """The JSON of `GET /path/…`.

        Raises:
            Refused: an error of the service.
            ServiceUnreachable: no answer.
        """
        return self._ask("GET", path, query=query)

    def post(self, *path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON of `POST /path/…`, None for an empty answer. Raises like `get`."""
        return self._ask("POST", path, body=body)

    @contextmanager
    def stream(
        self, *path: str, query: Mapping[str, str | None] | None = None, patient: bool = False
    ) -> Iterator[Iterator[bytes]]:
        """The body of `GET /path/…` as it comes; `patient`: however long it is silent. Raises like `get`."""
        with self._answer("GET", path, query, None, patient=patient) as answer:
            yield _chunks(answer)

    def _ask(
        self,
        method: str,
        path: tuple[str, ...],
        *,
        query: Mapping[str, str | None] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> Any:
        with self._answer(method, path, query, body, patient=False) as answer:
            text = answer.read()
        try:
            return json.loads(text) if text.strip() else None
        except ValueError as error:
            raise self._unreachable("what answers there is no job service") from error

    @contextmanager
    def _answer(
        self,
        method: str,
        path: tuple[str, ...],
        query: Mapping[str, str | None] | None,
        body: Mapping[str, Any] | None,
        *,
        patient: bool,
    ) -> Iterator[http.client.HTTPResponse]:
        target = "/" + "/".join(quote(part, safe="") for part in path)
        given = {name: value for name, value in (query or {}).items() if value is not None}
        if given:
            target += "?" + urlencode(given)
        headers = {"Content-Type": "application/json"}
        if self._door.authorization:
            headers["Authorization"] = self._door.authorization
        connection = self._door.connection(timeout_s=CONNECT_TIMEOUT_S)
        try:
            connection.connect()
            connection.sock.settimeout(None if patient else _ANSWER_TIMEOUT_S)
            connection.request(
                method, target, body=None if body is None else json.dumps(body), headers=headers
            )
            answer = connection.getresponse()
            if answer.status >= 400:
                raise self._refused(answer, path)
            yield answer
        except ssl.SSLCertVerificationError as error:
            reason = (
                f"its certificate is not trusted ({error.verify_message}): name its CA by --ca-cert"
            )
            raise self._unreachable(reason) from error
        except TimeoutError as error:
            raise self._unreachable("no answer in time") from error
        except PermissionError as error:
            reason = "only root and the user that the service runs as may use it"
            raise self._unreachable(reason) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise self._unreachable(f"{reason}: see that the service runs") from error
        finally:
            connection.close()

    def _unreachable(self, reason: str) -> ServiceUnreachable:
        return ServiceUnreachable(f"{self._door.shown}: {reason}")

    def _refused(self, answer: http.client.HTTPResponse, path: tuple[str, ...]) -> Refused:
        try:
            text = str(json.loads(answer.read(_CHUNK_BYTES))["error"])
        except (ValueError, KeyError, TypeError):
            text = f"HTTP {answer.status}"
        if answer.status in (403, 404) and path[0] == "jobs" and "get" in text:
            text = f"no job {path[1]}: `offloader jobs list` shows which there are"
        if answer.status == 401:
            text += ": the key in this configuration is not the one the running service has"
        return Refused(text, status=answer.status)


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while chunk := answer.read1(_CHUNK_BYTES):
        yield chunk
