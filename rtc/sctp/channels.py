"""The data channels of one association (RFC 8831 section 6, RFC 8832), still without I/O."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from rtc.sctp import dcep
from rtc.sctp.association import Association
from rtc.sctp.dcep import Ppid
from rtc.sctp.events import Message
from rtc.sctp.timings import MAX_STREAMS

MAX_CHANNELS: Final = 64
"""That the other side may have open at a time."""


class DataChannel:
    """One open or opening channel. Messages are bytes, or text from old clients."""

    __slots__ = (
        "_channels",
        "acknowledged",
        "closing",
        "label",
        "peer_closed",
        "stream",
        "unordered",
        "we_closed",
    )

    def __init__(self, channels: Channels, stream: int, label: str, *, unordered: bool) -> None:
        self._channels = channels
        self.stream = stream
        self.label = label
        self.unordered = unordered
        self.acknowledged = False
        """Both sides know of it."""
        self.closing = False
        """Either side wants to close it, or both have."""
        self.peer_closed = False
        self.we_closed = False
        """Its direction of the stream is reset, and ours. After both the stream may be used again."""

    @property
    def open(self) -> bool:
        return self.acknowledged and not self.closing and self._channels.usable

    def send(self, message: bytes | str) -> bool:
        """Queue a message.

        False when the channel is not open, the message larger than MAX_MESSAGE_BYTES, or more than the send
        buffer holds (1 MiB) is not yet acknowledged: it is not sent then.
        """
        return self.open and self._channels.send(self, message)

    def close(self) -> None:
        """Send what is queued, then close; idempotent. The other side learns of it."""
        self._channels.close(self)


class Channels:
    """Knows which stream is which channel; turns messages into DCEP and back.

    `on_open` and `on_message` are as in SctpTransport. `changed()` is called after anything was queued.
    """

    __slots__ = (
        "_association",
        "_by_stream",
        "_changed",
        "_on_message",
        "_on_open",
        "_parity",
        "refused_channels",
        "refused_messages",
        "unsent_messages",
    )

    def __init__(
        self,
        association: Association,
        *,
        role: Literal["client", "server"],
        on_open: Callable[[DataChannel], None],
        on_message: Callable[[DataChannel, bytes | str], None],
        changed: Callable[[], None],
    ) -> None:
        """`role`: in DTLS; the client's channels have even streams, the server's odd ones."""
        self._association = association
        self._parity = 0 if role == "client" else 1
        self._on_open = on_open
        self._on_message = on_message
        self._changed = changed
        self._by_stream: dict[int, DataChannel] = {}
        self.refused_channels = 0
        """Over the limit, or on a stream that is not the other side's to open."""
        self.refused_messages = 0
        """On no channel, or that no client should send."""
        self.unsent_messages = 0
        """Too large, or the send buffer was full."""

    @property
    def usable(self) -> bool:
        return not self._association.ended

    def create(self, label: str) -> DataChannel:
        """Ask for an ordered, reliable channel. Raises ValueError when no stream is free."""
        for stream in range(self._parity, MAX_STREAMS, 2):
            if stream not in self._by_stream:
                break
        else:
            raise ValueError(f"all {MAX_STREAMS // 2} streams for data channels are in use")
        channel = DataChannel(self, stream, label, unordered=False)
        self._by_stream[stream] = channel
        self._association.send(stream, Ppid.DCEP, dcep.build_open(label))
        self._changed()
        return channel

    def send(self, channel: DataChannel, message: bytes | str) -> bool:
        """See DataChannel.send."""
        protocol, payload = dcep.encode_message(message)
        taken = self._association.send(
            channel.stream, protocol, payload, unordered=channel.unordered
        )
        if taken:
            self._changed()
        else:
            self.unsent_messages += 1
        return taken

    def close(self, channel: DataChannel) -> None:
        if not channel.closing:
            channel.closing = True
            self._association.reset_stream(channel.stream)
            self._changed()

    def message(self, message: Message) -> None:
        """One came in."""
        if message.protocol == Ppid.DCEP:
            self._control(message)
            return
        channel = self._by_stream.get(message.stream)
        decoded = dcep.decode_message(message.protocol, message.payload)
        if channel is None or decoded is None:
            self.refused_messages += 1
            return
        if not channel.acknowledged:  # it overtook DATA_CHANNEL_ACK
            self._opened(channel)
        if not channel.closing:
            self._on_message(channel, decoded)

    def streams_reset(self, streams: tuple[int, ...]) -> None:
        """The other side closed these channels, or all if none is named: close our direction too."""
        for stream in streams or tuple(self._by_stream):
            channel = self._by_stream.get(stream)
            if channel is not None:
                channel.peer_closed = True
                self.close(channel)
                self._forget_if_closed(channel)

    def streams_free(self, streams: tuple[int, ...]) -> None:
        """Our direction of these is closed."""
        for stream in streams:
            channel = self._by_stream.get(stream)
            if channel is not None:
                channel.we_closed = True
                self._forget_if_closed(channel)

    def _forget_if_closed(self, channel: DataChannel) -> None:
        if channel.we_closed and channel.peer_closed:
            del self._by_stream[channel.stream]

    def _control(self, message: Message) -> None:
        channel = self._by_stream.get(message.stream)
        if message.payload == dcep.ACK:
            if channel is not None and not channel.acknowledged:
                self._opened(channel)
            return
        opening = dcep.parse_open(message.payload)
        if opening is None:
            self.refused_messages += 1
            return
        if (
            channel is not None
            or message.stream & 1 == self._parity
            or len(self._by_stream) >= MAX_CHANNELS
        ):
            self.refused_channels += 1
            if channel is None:
                self._association.reset_stream(message.stream)
            else:
                self.close(channel)
            return
        channel = DataChannel(self, message.stream, opening.label, unordered=opening.unordered)
        self._by_stream[message.stream] = channel
        self._association.send(message.stream, Ppid.DCEP, dcep.ACK)
        self._opened(channel)

    def _opened(self, channel: DataChannel) -> None:
        channel.acknowledged = True
        if not channel.closing:
            self._on_open(channel)
