"""A client of the Chrome DevTools Protocol over one WebSocket, with a session for each tab.

https://chromedevtools.github.io/devtools-protocol/; a dozen of its methods are used, so that this and the
`websockets` package take the place of a driver with a runtime of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import websockets
from websockets.asyncio.client import ClientConnection

_MAX_MESSAGE_BYTES: Final = 64 << 20
_OPEN_TIMEOUT_S: Final = 10.0

Listener = Callable[[str, dict[str, Any]], None]
"""`(method, params)` of an event; must not block."""


class DevToolsError(Exception):
    """The browser refused a command, or is gone; the message has its words."""


class DevTools:
    """Commands and events. Made by `connect_devtools`."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._last_id = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._listeners: dict[str, Listener] = {}

    async def send(
        self, method: str, *, session: str = "", timeout_s: float = 20.0, **params: Any
    ) -> dict[str, Any]:
        """The result of a command, of the browser or of the tab behind `session`.

        Raises:
            DevToolsError: it was refused, there was no answer in time, or the browser is gone.
        """
        self._last_id += 1
        number = self._last_id
        command = {"id": number, "method": method, "params": params}
        if session:
            command["sessionId"] = session
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            await self._socket.send(json.dumps(command))
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError:
            raise DevToolsError(f"no answer to {method} within {timeout_s:g} s") from None
        except websockets.ConnectionClosed:
            raise DevToolsError(f"the browser is gone: {method} was not sent") from None
        finally:
            del self._waiting[number]

    def listen(self, session: str, listener: Listener) -> None:
        """Hear the events of a tab."""
        self._listeners[session] = listener

    async def read(self) -> None:
        """Until the connection ends."""
        async for text in self._socket:
            message = json.loads(text)
            answer = self._waiting.get(message.get("id", 0))
            if answer is not None and not answer.done():
                if "error" in message:
                    answer.set_exception(DevToolsError(message["error"].get("message", "refused")))
                else:
                    answer.set_result(message["result"])
            elif "method" in message:
                listener = self._listeners.get(message.get("sessionId", ""))
                if listener is not None:
                    listener(message["method"], message["params"])


@contextlib.asynccontextmanager
async def connect_devtools(url: str) -> AsyncIterator[DevTools]:
    """Connect to a browser's endpoint, `ws://host:port/devtools/browser/…`."""
    connecting = websockets.connect(
        url,
        max_size=_MAX_MESSAGE_BYTES,
        open_timeout=_OPEN_TIMEOUT_S,
        ping_interval=None,
        proxy=None,
    )
    async with connecting as socket:
        devtools = DevTools(socket)
        reading = asyncio.create_task(devtools.read(), name="devtools-read")
        try:
            yield devtools
        finally:
            reading.cancel()
            await asyncio.wait([reading])
