"""One worker process as its owner sees it: started, spoken to over its link, ended for certain."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence

from foundation.logs import get_logger
from rtc.net.handover import HandoverSender, handover_pair
from sfu.metrics import Snapshot
from sfu.workers.link import Link, LinkBroken, Message
from sfu.workers.log_relay import relay

READY_TIMEOUT_S = 20.0
_KILL_TIMEOUT_S = 5.0


class WorkerFailed(Exception):
    """A worker did not come up; the message says which."""


class WorkerProcess:
    """Made by `launch`; `messages` until they end; then `end`, in any case."""

    def __init__(self, number: int, process: asyncio.subprocess.Process, link: Link) -> None:
        self.number = number
        self.sessions: set[str] = set()
        self.snapshot: Snapshot | None = None
        """The last one that it told."""
        self._process = process
        self._link = link
        self._incoming: AsyncIterator[Message] = link.messages()
        self._log = get_logger(component="workers", number=number)

    @classmethod
    async def launch(
        cls,
        number: int,
        *,
        udp_sockets: Sequence[socket.socket],
        start: Message,
        serve: Callable[[HandoverSender], None],
    ) -> WorkerProcess:
        """Start one and wait until it serves; `serve` gets its hand-over. `start` is its first message.

        Raises:
            WorkerFailed: it could not be started, ended at once, or said nothing for `READY_TIMEOUT_S`.
        """
        ours, theirs = socket.socketpair()
        hand, taken = handover_pair()
        sender = HandoverSender(hand)
        link: Link | None = None
        worker: WorkerProcess | None = None
        try:
            link = await Link.over(ours)
            descriptors = [theirs.fileno(), taken.fileno(), *(s.fileno() for s in udp_sockets)]
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "sfu.workers", str(number)),
                *(str(descriptor) for descriptor in descriptors),
                pass_fds=descriptors,
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C at the terminal is the owner's business
            )
            worker = cls(number, process, link)
            theirs.close()
            taken.close()
            worker.send(start)
            await worker._until_ready()
        except BaseException as error:
            for end in (theirs, taken, sender, link or ours):
                end.close()
            if worker is not None:
                await worker.end(grace_s=0)
            if isinstance(error, OSError):
                raise WorkerFailed(f"worker {number} cannot be started: {error}") from error
            raise
        serve(sender)
        return worker

    def send(self, message: Message) -> None:
        """Tell it; what a process that is gone would have been told is dropped, for `messages` ends too."""
        with contextlib.suppress(LinkBroken):
            self._link.send(message)

    async def messages(self) -> AsyncIterator[Message]:
        """What it says, but for log lines, which are logged; until it is gone."""
        async for message in self._incoming:
            if message["t"] == "log":
                relay(message["line"], worker=self.number)
            else:
                yield message

    async def end(self, *, grace_s: float) -> int:
        """Let it go by itself, for so long; then insist. Returns its exit code."""
        self._link.close()
        ending = asyncio.ensure_future(self._process.wait())
        try:
            await asyncio.wait([ending], timeout=grace_s)
        finally:
            self.kill()
            try:
                await asyncio.wait([ending], timeout=_KILL_TIMEOUT_S)
            except asyncio.CancelledError:
                await asyncio.wait([ending], timeout=_KILL_TIMEOUT_S)  # it is about to be gone
                raise
        return await ending

    def kill(self) -> None:
        """End it at once; idempotent."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _until_ready(self) -> None:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                async for message in self.messages():
                    if message["t"] == "ready":
                        return
        except TimeoutError:
            raise WorkerFailed(
                f"worker {self.number} was not ready in {READY_TIMEOUT_S:g} s"
            ) from None
        raise WorkerFailed(f"worker {self.number} ended before it was ready")
