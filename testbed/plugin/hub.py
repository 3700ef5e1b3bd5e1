"""WebSocket connections of the stand-in and who gets which event (sections 1.2, 3.1)."""

from __future__ import annotations

import json
from typing import Any

from foundation.channel import Channel, ChannelClosed
from testbed.plugin.world import User, random_id

PREFIX = "custom_com.mattermost.calls_"
QUEUE_CAPACITY = 256
"""More events than this waiting close the connection (section 1.4)."""


class Connection:
    """One authenticated WebSocket; its events wait in `outgoing`."""

    def __init__(self, user: User) -> None:
        self.connection_id = random_id()
        self.user = user
        self.outgoing: Channel[str] = Channel(QUEUE_CAPACITY)
        self._seq = 0

    def event(self, name: str, data: dict[str, Any], **broadcast: str) -> None:
        """Queue an event; a full queue closes the connection."""
        scope: dict[str, Any] = {
            "omit_users": None,
            "user_id": "",
            "channel_id": "",
            "team_id": "",
            "connection_id": "",
            "omit_connection_id": "",
        }
        frame = {"event": name, "data": data, "broadcast": scope | broadcast, "seq": self._seq}
        self._seq += 1
        self._queue(frame)

    def reply(self, seq: int, data: dict[str, Any]) -> None:
        """Answer a core action; replies carry no sequence number."""
        self._queue({"status": "OK", "data": data, "seq_reply": seq})

    def fail(self, seq: int, error_id: str, message: str) -> None:
        error = {"id": error_id, "message": message}
        self._queue({"status": "FAIL", "error": error, "seq_reply": seq})

    def accepted(self, seq: int) -> None:
        """The challenge was right."""
        self._queue({"status": "OK", "seq_reply": seq})

    def _queue(self, frame: dict[str, Any]) -> None:
        try:
            if not self.outgoing.offer(json.dumps(frame)):
                self.outgoing.close()
        except ChannelClosed:
            return


class Hub:
    """All connections."""

    def __init__(self, bot: User) -> None:
        self._bot = bot
        self._connections: dict[str, Connection] = {}

    def add(self, connection: Connection) -> None:
        self._connections[connection.connection_id] = connection

    def remove(self, connection: Connection) -> None:
        self._connections.pop(connection.connection_id, None)
        connection.outgoing.close()

    def find(self, connection_id: str) -> Connection | None:
        return self._connections.get(connection_id)

    def to_connection(self, connection_id: str, name: str, data: dict[str, Any]) -> None:
        """Scope *conn*."""
        connection = self._connections.get(connection_id)
        if connection is not None:
            connection.event(PREFIX + name, data, connection_id=connection_id)

    def to_user(self, user_id: str, name: str, data: dict[str, Any]) -> None:
        """Scope *user*: all connections of a user."""
        for connection in list(self._connections.values()):
            if connection.user.user_id == user_id:
                connection.event(PREFIX + name, data, user_id=user_id)

    def to_channel(self, channel_id: str, name: str, data: dict[str, Any]) -> None:
        """Scope *chan*: the bot's copy names it as user and the channel only in the data (trap 2)."""
        self._to_bot(channel_id, name, data)
        for connection in list(self._connections.values()):
            if connection.user is not self._bot:
                connection.event(
                    PREFIX + name, data | {"channelID": channel_id}, channel_id=channel_id
                )

    def to_participants(
        self, channel_id: str, user_ids: set[str], name: str, data: dict[str, Any]
    ) -> None:
        """Scope *part*: one copy for each participating user, and one for the bot."""
        self._to_bot(channel_id, name, data)
        for connection in list(self._connections.values()):
            user_id = connection.user.user_id
            if user_id in user_ids and connection.user is not self._bot:
                connection.event(
                    PREFIX + name,
                    data | {"channelID": channel_id},
                    channel_id=channel_id,
                    user_id=user_id,
                )

    def _to_bot(self, channel_id: str, name: str, data: dict[str, Any]) -> None:
        self.to_user(self._bot.user_id, name, data | {"channelID": channel_id})
