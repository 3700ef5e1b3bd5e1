"""Messages between the owner of the media port and a worker: MessagePack maps, framed by their length."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgpack

from sfu.media_port import SessionConfig
from sfu.messages import Close, Rtc, RtcMessage, RtcType, Vad

Message = dict[str, Any]
_MAX_FRAME_BYTES = 4 * 1024 * 1024
_FLUSH_TIMEOUT_S = 2.0
_MAX_UNSENT_BYTES = 16 * 1024 * 1024
_CONFIG = ("group_id", "call_id", "user_id", "session_id", "channel_id")
_OPTIONS = ("av1_support", "dc_signaling")


class LinkBroken(Exception):
    """The other process is gone, or does not read any more."""


class Link:
    """One end. Sending never waits: a process that reads nothing any more counts as gone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, sock: socket.socket) -> Link:
        """Takes over one end of a socket pair."""
        reader, writer = await asyncio.open_connection(sock=sock, limit=_MAX_FRAME_BYTES)
        return cls(reader, writer)

    def send(self, message: Message) -> None:
        """Raises LinkBroken."""
        if self._writer.is_closing():
            raise LinkBroken("the link is closed")
        if self._writer.transport.get_write_buffer_size() > _MAX_UNSENT_BYTES:
            self._writer.transport.abort()
            raise LinkBroken(f"more than {_MAX_UNSENT_BYTES} bytes wait for the other process")
        packed: bytes = msgpack.packb(message)
        self._writer.write(len(packed).to_bytes(4, "big") + packed)

    async def messages(self) -> AsyncIterator[Message]:
        """Until the other side is gone."""
        while True:
            try:
                size = int.from_bytes(await self._reader.readexactly(4), "big")
                frame = await self._reader.readexactly(size)
            except (asyncio.IncompleteReadError, OSError):
                return
            yield msgpack.unpackb(frame)

    def close(self) -> None:
        """What was sent is still delivered as long as the loop runs; idempotent."""
        self._writer.close()

    async def finish(self) -> None:
        """Close, and wait until all that was sent is delivered, if somebody still takes it."""
        self._writer.close()
        with contextlib.suppress(OSError):  # TimeoutError is one
            async with asyncio.timeout(_FLUSH_TIMEOUT_S):
                await self._writer.wait_closed()


def pack_config(config: SessionConfig) -> Message:
    return {name: getattr(config, name) for name in (*_CONFIG, *_OPTIONS)}


def unpack_config(value: Message) -> SessionConfig:
    return SessionConfig(**value)


def pack_rtc(message: RtcMessage) -> list[Any]:
    return [
        int(message.type),
        message.session_id,
        message.data,
        message.group_id,
        message.user_id,
        message.call_id,
    ]


def unpack_rtc(value: list[Any]) -> RtcMessage:
    kind, session_id, data, group_id, user_id, call_id = value
    return RtcMessage(
        type=RtcType(kind),
        session_id=session_id,
        data=data,
        group_id=group_id,
        user_id=user_id,
        call_id=call_id,
    )


def pack_outgoing(message: Rtc | Vad | Close) -> list[Any]:
    """What a session says, for the owner to pass on."""
    match message:
        case Rtc(inner):
            return ["rtc", pack_rtc(inner)]
        case Vad(inner):
            return ["vad", pack_rtc(inner)]
        case Close(session_id):
            return ["close", session_id]


def unpack_outgoing(value: list[Any]) -> Rtc | Vad | Close:
    kind, inner = value
    if kind == "close":
        return Close(session_id=inner)
    message = unpack_rtc(inner)
    return Rtc(message) if kind == "rtc" else Vad(message)
