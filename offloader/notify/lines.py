"""Lines on their way to the admins' channel: a short queue, and patience with a site that is away."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from foundation.channel import Channel
from foundation.logs import get_logger
from foundation.retry import Backoff, retry
from offloader.notify.webhook import NotSent, Sender

_WAITING: Final = 16
"""There are ten causes, each once in an hour."""
_BACKOFF: Final = Backoff(attempts=9, first_wait_s=2.0, growth=3.0, max_wait_s=600.0)
"""About forty minutes: Mattermost may be what is away."""

log = get_logger()


class Lines:
    """One per process; `run` it in a task."""

    def __init__(self, sender: Sender, *, on_lost: Callable[[], None]) -> None:
        """`on_lost` is called for each line that did not arrive."""
        self._sender = sender
        self._waiting: Channel[str] = Channel(_WAITING)
        self._on_lost = on_lost

    def say(self, text: str) -> None:
        """Send it some time; never waits. With too many before it, it is dropped and counted."""
        if not self._waiting.offer(text):
            self._drop("too many lines wait")

    async def run(self) -> None:
        """Until cancelled."""
        async for text in self._waiting:
            try:
                await retry(
                    partial(self._sender.send, text),
                    backoff=_BACKOFF,
                    retryable=lambda error: isinstance(error, NotSent) and error.retryable,
                    on_failure=_complain,
                )
            except NotSent as error:
                self._drop(str(error))
            except Exception as error:  # noqa: BLE001 - one line is lost, and not all that come after it
                self._drop(type(error).__name__)

    def _drop(self, reason: str) -> None:
        self._on_lost()
        log.error("notify.line_lost", reason=reason)


def _complain(error: Exception, failures: int) -> None:
    log.warning("notify.not_sent", reason=str(error), failures=failures)
