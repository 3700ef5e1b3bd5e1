"""The client's half of the signaling lock (calls-plugin.md 4.4): held round every offer after the first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from callclient.errors import MediaFailed
from rtc.calls_dc import DcMessage, DcType

LOCK_TIMEOUT_S = 5.0
_RETRY_S = 0.1


class LockClient:
    """Asks over the data channel. Gives back only what it was granted: the lock knows no owner."""

    def __init__(self, send: Callable[[DcMessage], object]) -> None:
        self._send = send
        self._reply: asyncio.Future[bool] | None = None

    async def acquire(self, timeout_s: float | None = None) -> None:
        """Ask until it is granted; by default for LOCK_TIMEOUT_S.

        Raises:
            MediaFailed: not in time.
        """
        loop = asyncio.get_running_loop()
        timeout_s = LOCK_TIMEOUT_S if timeout_s is None else timeout_s
        granted = False
        try:
            async with asyncio.timeout(timeout_s):
                while not granted:
                    self._reply = loop.create_future()
                    self._send(DcMessage(DcType.LOCK))
                    granted = await self._reply
                    if not granted:
                        await asyncio.sleep(_RETRY_S)
        except TimeoutError:
            raise MediaFailed(f"no signaling lock within {timeout_s:g} s") from None
        finally:
            reply, self._reply = self._reply, None
            if not granted and reply is not None and _was_granted(reply):
                self.release()  # it came in the moment of giving up

    def release(self) -> None:
        """Give it back; only after `acquire`."""
        self._send(DcMessage(DcType.UNLOCK))

    def replied(self, granted: bool) -> None:
        """The server answered. A grant that nobody waits for any more would stop the server's own offers."""
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(granted)
        elif granted:
            self.release()


def _was_granted(reply: asyncio.Future[bool]) -> bool:
    return reply.done() and not reply.cancelled() and reply.result()
