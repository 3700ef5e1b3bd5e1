"""One tab: what it shows can be reloaded, asked and told, and its errors are kept."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from testbed.browser.devtools import DevTools, DevToolsError

_LOAD_TIMEOUT_S: Final = 20.0
_MAX_ERRORS: Final = 100
_POLL_S: Final = 0.1


class TabError(Exception):
    """A script in the page failed; the message is the script's."""


class Tab:
    """Made by Chromium.open."""

    def __init__(self, devtools: DevTools, target: str, session: str) -> None:
        self.errors: list[str] = []
        """What went wrong in the page without anybody asking: uncaught errors, refused loads."""
        self._devtools = devtools
        self._target = target
        self._session = session
        self._loaded = asyncio.Event()
        devtools.listen(session, self._heard)

    async def prepare(self) -> None:
        """Hear of loads and errors; behave as if a person looked at this tab."""
        for domain in ("Page", "Runtime", "Log"):
            await self._send(f"{domain}.enable")
        await self._send("Emulation.setFocusEmulationEnabled", enabled=True)

    async def load(self, url: str) -> None:
        """Raises DevToolsError when it cannot be loaded."""
        self._loaded.clear()
        answer = await self._send("Page.navigate", url=url)
        if answer.get("errorText"):
            raise DevToolsError(f"{url} cannot be loaded: {answer['errorText']}")
        await self._wait_for_load()

    async def reload(self) -> None:
        """As F5."""
        self._loaded.clear()
        await self._send("Page.reload")
        await self._wait_for_load()

    async def run(self, function: str, *arguments: Any, timeout_s: float = 30.0) -> Any:
        """Call a JavaScript function (its text) with JSON values; its result, of a promise too, as JSON.

        Raises:
            TabError: it threw.
            DevToolsError: it took too long, or the tab is gone.
        """
        given = ", ".join(json.dumps(argument) for argument in arguments)
        expression = f"({function})({given})"
        try:
            answer = await self._send(
                "Runtime.evaluate",
                expression=expression,
                awaitPromise=True,
                returnByValue=True,
                userGesture=True,
                timeout_s=timeout_s,
            )
        except DevToolsError as error:
            raise DevToolsError(f"{error}: {expression}") from None
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise TabError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    async def until(self, function: str, *arguments: Any, timeout_s: float = 15.0) -> Any:
        """Wait until a JavaScript function's result is true, and return it.

        Raises:
            TabError: it never was; with what it was last.
        """
        last = None
        try:
            async with asyncio.timeout(timeout_s):
                while not last:
                    last = await self.run(function, *arguments)
                    await asyncio.sleep(0 if last else _POLL_S)
        except TimeoutError:
            raise TabError(f"not within {timeout_s:g} s: {function}; it was {last!r}") from None
        return last

    async def screenshot(self) -> bytes:
        """A PNG file's, base64-encoded as the protocol has it."""
        return str((await self._send("Page.captureScreenshot"))["data"]).encode()

    async def prefer(self, scheme: str) -> None:
        """`dark` or `light`, as a person has set it in the system."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self._send("Emulation.setEmulatedMedia", features=features)

    async def resize(self, width_px: int, height_px: int) -> None:
        """The window's inner size."""
        await self._send(
            "Emulation.setDeviceMetricsOverride",
            width=width_px,
            height=height_px,
            deviceScaleFactor=1,
            mobile=False,
        )

    async def press(self, key: str) -> None:
        """Tab, Enter, Space or a letter, on what has the focus."""
        text = {"Enter": "\r", "Space": " "}.get(key, key if len(key) == 1 else "")
        code = {"Tab": 9, "Enter": 13, "Space": 32}.get(key, ord(key[0].upper()))
        named = " " if key == "Space" else key
        common = {"key": named, "windowsVirtualKeyCode": code, "code": key}
        await self._send("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        await self._send("Input.dispatchKeyEvent", type="keyUp", **common)

    async def close(self) -> None:
        """As its person closes it: without a word to anybody."""
        await self._devtools.send("Target.closeTarget", targetId=self._target)

    async def _send(self, method: str, **params: Any) -> dict[str, Any]:
        return await self._devtools.send(method, session=self._session, **params)

    async def _wait_for_load(self) -> None:
        try:
            async with asyncio.timeout(_LOAD_TIMEOUT_S):
                await self._loaded.wait()
        except TimeoutError:
            raise DevToolsError(f"the page was not loaded within {_LOAD_TIMEOUT_S:g} s") from None

    def _heard(self, method: str, params: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded.set()
        error = ""
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            error = details.get("exception", {}).get("description") or details["text"]
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            error = params["entry"]["text"]
        if error and len(self.errors) < _MAX_ERRORS:
            self.errors.append(error)
