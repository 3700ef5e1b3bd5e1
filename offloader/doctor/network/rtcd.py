"""Asks an SFU for its candidates in its own protocol (rtcd.md 2): a session in a call of our own, alone.

An SFU answers STUN only to who knows a session's password; so there has to be a session. It publishes
nothing, joins no call of people, and is gone when the questions are over.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import httpx
import websockets
from websockets.asyncio.client import ClientConnection

from offloader.doctor.network.rtcd_wire import (
    ICE,
    SDP,
    Candidate,
    bracketed,
    frame,
    json_mapping,
    offer_sdp,
    random_id,
    sdp_value,
    unpacked,
)

_TIMEOUT_S: Final = 5.0
_TRICKLE_S: Final = 1.0
"""Candidates may come after the answer, and nothing says which is the last one (calls-plugin.md 4.2)."""
_PREFIX: Final = "offloader-doctor-"
"""Of the clients that are registered for an examination, and taken away after it."""


class RtcdError(Exception):
    """The SFU's API cannot be used; one plain sentence. `code` names the case."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True, slots=True)
class RtcdUrl:
    """`http(s)://[client id:auth key@]host:port`, as the plugin's setting has it (rtcd.md 4.1)."""

    scheme: str
    host: str
    port: int
    client_id: str
    auth_key: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> RtcdUrl:
        """Raises RtcdError: not such a URL. Its text does not repeat what was given: it may hold a key."""
        try:
            parts = urlsplit(text)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError:
            parts, port = urlsplit(""), 0
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RtcdError("rtcd_url_wrong", "should be as http://[client id:auth key@]host:8045")
        return cls(
            parts.scheme,
            parts.hostname,
            port,
            unquote(parts.username or ""),
            unquote(parts.password or ""),
        )

    @property
    def shown(self) -> str:
        """Without credentials."""
        return f"{self.scheme}://{bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class Announced:
    """One SFU, as a session is told."""

    address: str
    """Of its API."""
    version: str
    candidates: tuple[Candidate, ...]
    ufrags: tuple[str, str]
    """Theirs, ours: the user name of checks."""
    password: str = field(repr=False)
    """Theirs: the key of checks."""


async def addresses_of(url: RtcdUrl) -> list[str]:
    """Each IPv4 address of the name is an SFU of its own (rtcd.md 4.2). Raises RtcdError."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            found = await loop.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise RtcdError("rtcd_not_resolved", f"{url.host} does not resolve") from error
    addresses = {str(entry[4][0]) for entry in found}
    return sorted(a for a in addresses if ":" not in a) or sorted(addresses)


@contextlib.asynccontextmanager
async def session_at(url: RtcdUrl, address: str, *, ca: ssl.SSLContext) -> AsyncIterator[Announced]:
    """Make a session at the SFU of `address`, and end it. Raises RtcdError."""
    api = _Api(url, address, ca)
    version = await api.version()
    registered = False
    if not url.client_id:
        await api.register()
        registered = True
    try:
        async with _connected(api) as opened:
            session_id = random_id()
            announced = await _negotiate(opened, session_id, address, version)
            try:
                yield announced
            finally:
                with contextlib.suppress(OSError, websockets.WebSocketException):
                    await opened.send(frame("leave", {"sessionID": session_id}))
    finally:
        if registered:
            await api.unregister()


class _Api:
    """The SFU's HTTP routes, at one of its addresses, under the name that the URL has."""

    def __init__(self, url: RtcdUrl, address: str, ca: ssl.SSLContext) -> None:
        self.url, self.address, self.ca = url, address, ca
        self.client_id = url.client_id or f"{_PREFIX}{secrets.token_hex(6)}"
        self._key = url.auth_key or secrets.token_urlsafe(32)

    @property
    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.client_id}:{self._key}".encode()).decode()

    async def version(self) -> str:
        """`buildVersion`."""
        answer = await self._ask("GET", "/version")
        try:
            return str(answer.json()["buildVersion"])
        except (ValueError, KeyError, TypeError) as error:
            text = f"what answers at {self.url.shown} ({self.address}) is no rtcd (HTTP {answer.status_code})"
            raise RtcdError("rtcd_is_something_else", text) from error

    async def register(self) -> None:
        body = {"clientID": self.client_id, "authKey": self._key}
        answer = await self._ask("POST", "/register", json=body)
        if answer.status_code != httpx.codes.CREATED:
            raise RtcdError(
                "rtcd_wants_credentials",
                f"{self.url.shown} registers nobody by itself (HTTP {answer.status_code})",
            )

    async def unregister(self) -> None:
        with contextlib.suppress(
            RtcdError
        ):  # an SFU with nothing but self-registration keeps no secrets
            await self._ask(
                "POST", "/unregister", json={"clientID": self.client_id}, authorized=True
            )

    async def _ask(
        self, method: str, path: str, *, json: Any = None, authorized: bool = False
    ) -> httpx.Response:
        target = f"{self.url.scheme}://{bracketed(self.address)}:{self.url.port}{path}"
        headers = {"Host": f"{bracketed(self.url.host)}:{self.url.port}"}
        if authorized:
            headers["Authorization"] = self.basic
        try:
            async with httpx.AsyncClient(
                timeout=_TIMEOUT_S, trust_env=False, verify=self.ca
            ) as http:
                return await http.request(
                    method,
                    target,
                    json=json,
                    headers=headers,
                    extensions={"sni_hostname": self.url.host},
                )
        except httpx.HTTPError as error:
            text = f"{self.url.shown} at {self.address} does not answer ({type(error).__name__}: {error})"
            raise RtcdError("rtcd_unreachable", text) from error


@contextlib.asynccontextmanager
async def _connected(api: _Api) -> AsyncIterator[ClientConnection]:
    url = api.url
    secure = url.scheme == "https"
    try:
        opened = await websockets.connect(
            f"{'wss' if secure else 'ws'}://{bracketed(url.host)}:{url.port}/ws",
            host=api.address,
            port=url.port,
            ssl=api.ca if secure else None,
            additional_headers={"Authorization": api.basic},
            open_timeout=_TIMEOUT_S,
            close_timeout=1,
            ping_interval=None,
            max_size=1 << 20,
            proxy=None,
        )
    except websockets.InvalidStatus as error:
        # The reference answers 200 without an upgrade to who may not (rtcd.md trap 3).
        text = (
            f"{url.shown} refuses the client {api.client_id!r} (HTTP {error.response.status_code})"
        )
        raise RtcdError("rtcd_credentials_refused", text) from error
    except (OSError, websockets.WebSocketException) as error:
        text = f"no WebSocket to {url.shown} at {api.address} ({type(error).__name__})"
        raise RtcdError("rtcd_unreachable", text) from error
    try:
        yield opened
    finally:
        await opened.close()


async def _negotiate(
    opened: ClientConnection, session_id: str, address: str, version: str
) -> Announced:
    """Join a new call, offer a data channel, and read the answer and its candidates."""
    ufrag, password = secrets.token_hex(4), secrets.token_hex(16)
    ids = {name: random_id() for name in ("callID", "userID", "channelID")}
    join = {**ids, "sessionID": session_id, "av1Support": False, "dcSignaling": False}
    offer = json.dumps({"type": "offer", "sdp": offer_sdp(ufrag, password)}).encode()
    try:
        await opened.send(frame("join", join))
        # As the plugin does: a person's offer takes a moment, too.
        await opened.send(frame("rtc", {"session_id": session_id, "type": SDP, "data": offer}))
        sdp, trickled = await _read_answer(opened)
    except TimeoutError as error:
        text = f"it takes the session and does not answer the offer within {_TIMEOUT_S:g} s"
        raise RtcdError("rtcd_silent", text) from error
    except (OSError, websockets.WebSocketException) as error:
        text = f"the SFU closed the WebSocket ({type(error).__name__})"
        raise RtcdError("rtcd_silent", text) from error
    theirs, their_password = (sdp_value(sdp, name) for name in ("ice-ufrag", "ice-pwd"))
    if not (theirs and their_password):
        raise RtcdError("rtcd_silent", "the SFU's answer has no ice-ufrag or ice-pwd")
    lines = [*sdp.splitlines(), *trickled]
    found = dict.fromkeys(c for line in lines if (c := Candidate.parse(line)) is not None)
    return Announced(address, version, tuple(found), (theirs, ufrag), their_password)


async def _read_answer(opened: ClientConnection) -> tuple[str, list[str]]:
    """The answer's SDP, and candidates that came beside it. Raises TimeoutError: no answer."""
    sdp = ""
    trickled: list[str] = []
    with contextlib.suppress(
        TimeoutError
    ):  # that nothing comes any more is the only end of candidates
        async with asyncio.timeout(_TIMEOUT_S) as limit:
            while True:
                kind, body = unpacked(await opened.recv())
                if kind == "close":
                    raise RtcdError("rtcd_refuses_session", "the SFU ended the session at once")
                if kind != "rtc" or not isinstance(body.get("data"), bytes):
                    continue
                data = json_mapping(body["data"])
                if body.get("type") == SDP and data.get("type") == "answer":
                    sdp = str(data.get("sdp"))
                    limit.reschedule(asyncio.get_running_loop().time() + _TRICKLE_S)
                elif body.get("type") == ICE and isinstance(data.get("candidate"), Mapping):
                    trickled.append(str(data["candidate"].get("candidate")))
    if not sdp:
        raise TimeoutError
    return sdp, trickled
