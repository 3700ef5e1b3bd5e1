"""Step `websocket`: does the upgrade pass every proxy, and does `hello` come (calls-plugin.md 1)?"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any, Final

import httpx
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus

from offloader.doctor.finding import Finding, Verdict, failure, ok, skipped, warning
from offloader.doctor.network.answers import clock_finding
from offloader.doctor.network.plugin import TOKEN_CAUSE
from offloader.doctor.network.way import PLUGIN_PATH, Way, reason_of, unreached
from offloader.doctor.step import Context, Step

_PATH: Final = "/api/v4/websocket"
_HELLO_S: Final = 5.0
"""The server drops who has not said who he is by then."""
_SLOW_HELLO_S: Final = 2.0
_LATEST_MS: Final = 2**53
"""Since 1970: what JSON's numbers can say to the millisecond."""
_STRIPPED: Final = frozenset({200, 400, 404, 405, 426, 501})
"""What Mattermost or a proxy answers to a request that has lost its Upgrade header."""
_NGINX: Final = (
    "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; "
    'proxy_set_header Connection "upgrade";   # nginx, location ~ /api/v[0-9]+/(users/)?websocket$'
)
_APACHE: Final = (
    "RewriteRule /api/v4/websocket ws://127.0.0.1:8065%{REQUEST_URI} [P,QSA,L]   # Apache"
)


async def upgrade(context: Context) -> Sequence[Finding]:
    """Open it as a job does; with a token wait for `hello`, and ask what time it is."""
    way = Way.of(context)
    if (missing := await unreached(way)) is not None or way is None:
        return [missing] if missing else []
    began_s = time.monotonic()
    try:
        opened = await _open(way, context.token)
    except InvalidStatus as error:
        return [_refused(way, error)]
    except TimeoutError:
        return [_no_answer(way)]
    except (OSError, websockets.WebSocketException) as error:
        return [_broken(way, error)]
    try:
        passed = ok(
            "websocket_upgrades", way.url, f"in {(time.monotonic() - began_s) * 1000:.0f} ms"
        )
        if not context.token:
            return [
                passed,
                skipped("hello_needs_token", "hello", "no token was given: --token-file"),
            ]
        return [passed, *await _greeted(way, opened, context.token)]
    finally:
        await opened.close()


async def _open(way: Way, token: str) -> ClientConnection:
    return await websockets.connect(
        f"{'wss' if way.tls else 'ws'}{way.url.removeprefix(way.scheme)}{_PATH}",
        additional_headers={"Authorization": f"Bearer {token}"} if token else {},
        proxy=way.proxy or None,
        ssl=way.context() if way.tls else None,
        open_timeout=_HELLO_S,
        close_timeout=1,
        ping_interval=None,
        max_size=1 << 20,
    )


async def _greeted(way: Way, opened: ClientConnection, token: str) -> list[Finding]:
    began_s = time.monotonic()
    try:
        async with asyncio.timeout(_HELLO_S):
            hello = await _event(opened, lambda frame: frame.get("event") == "hello")
    except (TimeoutError, websockets.ConnectionClosed):
        return [await _no_hello(way, token)]
    took_s = time.monotonic() - began_s
    version = str(_data(hello).get("server_version", ""))
    value = f"after {took_s * 1000:.0f} ms"
    found = [
        warning(
            "hello_slow",
            "hello",
            value,
            cause="the server takes long to let a job in: jobs wait 5 s",
            fix=("look at the load of the Mattermost server and its database",),
        )
        if took_s > _SLOW_HELLO_S
        else ok("hello_came", "hello", value, data={"server_version": version})
    ]
    return [*found, *await _clock(opened)]


async def _clock(opened: ClientConnection) -> list[Finding]:
    """Mattermost's own time, to the millisecond; told only where it is off."""
    try:
        async with asyncio.timeout(_HELLO_S):
            sent_s = time.time()
            await opened.send(json.dumps({"action": "ping", "seq": 1, "data": None}))
            pong = await _event(opened, lambda frame: frame.get("seq_reply") == 1)
            came_s = time.time()
    except (TimeoutError, websockets.ConnectionClosed):
        return []
    told = _data(pong).get("server_time")
    if not isinstance(told, int | float) or not 0 < told < _LATEST_MS:
        return []
    offset_s = told / 1000 - (sent_s + came_s) / 2
    found = clock_finding(offset_s, (came_s - sent_s) / 2, "server_time")
    return [found] if found.verdict is not Verdict.OK else []


def _data(frame: dict[str, Any]) -> dict[str, Any]:
    data = frame.get("data")
    return data if isinstance(data, dict) else {}


async def _event(opened: ClientConnection, wanted: Any) -> dict[str, Any]:
    while True:
        try:
            frame = json.loads(await opened.recv())
        except (ValueError, RecursionError):
            continue
        if isinstance(frame, dict) and wanted(frame):
            return frame


async def _no_hello(way: Way, token: str) -> Finding:
    if await token_status(way, token) == httpx.codes.UNAUTHORIZED:
        return failure(
            "hello_token_refused",
            "hello",
            "the token is not accepted",
            cause=TOKEN_CAUSE,
            fix=(
                "Mattermost > Profile > Security > Personal Access Tokens: make a new one",
                "offloader doctor --site-url … --token-file FILE",
            ),
        )
    return failure(
        "hello_missing",
        "hello",
        f"nothing within {_HELLO_S:g} s",
        cause="the WebSocket opens, and nothing comes over it: a proxy on the way holds its data back",
        fix=(_NGINX, "proxy_buffering off;   # nginx, in the same location"),
    )


async def token_status(way: Way, token: str) -> int:
    """HTTP status of a route that wants a token; 0: no answer."""
    try:
        async with way.http(token=token) as http:
            return (await http.get(f"{PLUGIN_PATH}/config")).status_code
    except (httpx.HTTPError, OSError):
        return 0


def _refused(way: Way, error: InvalidStatus) -> Finding:
    status = error.response.status_code
    body = (error.response.body or b"")[:200].decode(errors="replace").strip()
    certain = "upgrade" in body.lower()
    if status in _STRIPPED:
        return failure(
            "websocket_upgrade_stripped",
            way.url,
            f"HTTP {status} instead of 101",
            cause="a proxy on the way does not pass on the headers Upgrade and Connection"
            + (": Mattermost says so itself" if certain else ""),
            fix=(_NGINX, _APACHE),
            data={"status": status},
        )
    return failure(
        "websocket_refused",
        way.url,
        f"HTTP {status} instead of 101",
        cause="the upgrade is refused on the way, while plain requests pass"
        if status in (401, 403)
        else "the proxy cannot hand the upgrade to Mattermost",
        fix=(f"let {_PATH} through as it is", _NGINX),
        data={"status": status},
    )


def _no_answer(way: Way) -> Finding:
    return failure(
        "websocket_no_answer",
        way.url,
        f"no answer to the upgrade within {_HELLO_S:g} s",
        cause="a proxy on the way holds the upgrade and does not pass it on",
        fix=(_NGINX, _APACHE),
    )


def _broken(way: Way, error: Exception) -> Finding:
    return failure(
        "websocket_fails",
        way.url,
        reason_of(error),
        cause="the connection broke in the upgrade: a proxy or firewall that knows no WebSocket",
        fix=(_NGINX, _APACHE),
    )


WEBSOCKET: Final = Step("websocket", "WebSocket of the Mattermost server", upgrade, timeout_s=40)
