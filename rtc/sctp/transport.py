"""Data channels on DTLS and the event loop: no task, no queue, a timer only while something is due."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from foundation.logs import get_logger
from rtc.dtls import DtlsTransport
from rtc.sctp.association import Association
from rtc.sctp.channels import Channels, DataChannel
from rtc.sctp.events import Ended, Message, SctpEvent, StreamsFree, StreamsReset
from rtc.sctp.timings import FAR_FUTURE_NS

SCTP_PORT: Final = 5000
_log = get_logger(component="sctp")


class SctpTransport:
    """The association of one peer connection.

    `on_open(channel)` is called when a channel opens, whoever made it; `on_message(channel, message)`
    for each message; `on_failed(reason)` once when the other side breaks the protocol or our limits. All are
    called from the loop, and must not block.
    """

    __slots__ = (
        "_association",
        "_channels",
        "_closed",
        "_dtls",
        "_loop",
        "_on_failed",
        "_on_message",
        "_on_open",
        "_pumping",
        "_timer",
        "_timer_ns",
    )

    def __init__(
        self,
        dtls: DtlsTransport,
        *,
        on_open: Callable[[DataChannel], None],
        on_message: Callable[[DataChannel, bytes | str], None],
        on_failed: Callable[[str], None],
    ) -> None:
        self._dtls = dtls
        self._on_open = on_open
        self._on_message = on_message
        self._on_failed = on_failed
        self._association: Association | None = None
        self._channels: Channels | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = FAR_FUTURE_NS
        self._pumping = self._closed = False

    def refused(self) -> dict[str, int]:
        """How much of what came was of no use so far, by what it was."""
        association, channels = self._association, self._channels
        if association is None or channels is None:
            return {}
        return {
            "sctp_packet": association.refused_packets,
            "sctp_chunk": association.refused_chunks,
            "channel": channels.refused_channels,
            "channel_message": channels.refused_messages,
        }

    def create_channel(self, label: str) -> None:
        """Announce an ordered, reliable channel; `on_open` tells when it is open. After `start`."""
        assert self._association is not None
        assert self._channels is not None
        self._association.connect(time.monotonic_ns())
        self._channels.create(label)

    def start(self, *, remote_port: int) -> None:
        """Set the association up; DTLS must be connected."""
        self._association = Association(local_port=SCTP_PORT, remote_port=remote_port)
        self._channels = Channels(
            self._association,
            role=self._dtls.role,
            on_open=self._on_open,
            on_message=self._on_message,
            changed=self._pump,
        )
        self._association.connect(time.monotonic_ns())
        self._pump()

    def receive(self, packet: bytes) -> None:
        """An SCTP packet came out of DTLS."""
        if self._association is not None and not self._closed:
            self._association.receive(packet, time.monotonic_ns())
            self._pump()

    async def close(self) -> None:
        """Abort the association; idempotent. No callback comes after it."""
        if self._association is not None and not self._closed:
            self._closed = True
            self._association.abort()
            self._send(self._association)
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pump(self) -> None:
        """Tell what happened, then send what came of it, in one go: callbacks may send."""
        association = self._association
        if self._pumping or self._closed or association is None:
            return
        self._pumping = True
        try:
            while events := association.take_events():
                for event in events:
                    self._happened(event)
                    if self._closed:
                        return
        finally:
            self._pumping = False
        self._send(association)
        self._arm(association.due_ns)

    def _arm(self, due_ns: int) -> None:
        """A timer that is early does no harm, so it is seldom moved; with nothing due there is none."""
        if self._timer_ns <= due_ns < FAR_FUTURE_NS:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timer_ns = due_ns
        if due_ns < FAR_FUTURE_NS:
            delay_s = max(0.0, (due_ns - time.monotonic_ns()) / 1e9)
            self._timer = self._loop.call_later(delay_s, self._tick)

    def _send(self, association: Association) -> None:
        for packet in association.take_outgoing(time.monotonic_ns()):
            self._dtls.send_application_data(packet)

    def _tick(self) -> None:
        self._timer, self._timer_ns = None, FAR_FUTURE_NS
        if self._association is not None:
            self._association.tick(time.monotonic_ns())
            self._pump()

    def _happened(self, event: SctpEvent) -> None:
        channels = self._channels
        assert channels is not None
        match event:
            case Message():
                channels.message(event)
            case StreamsReset(streams):
                channels.streams_reset(streams)
            case StreamsFree(streams):
                channels.streams_free(streams)
            case Ended(reason, failed):
                _log.info("sctp.ended", reason=reason)
                if failed:
                    self._on_failed(f"SCTP: {reason}")
