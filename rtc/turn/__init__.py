"""A TURN client without I/O (RFC 8656): bytes and the time in, bytes and events out.

A core of our own: the client of aioice starts a task for each packet that it sends, and hides why TLS failed;
what ICE needs of TURN fits in three modules.
"""

from rtc.turn.client import Allocated, Ended, PeerRefused, TurnClient, TurnEvent
from rtc.turn.servers import IceServer, ServerUrl, ServerUrlError

__all__ = [
    "Allocated",
    "Ended",
    "IceServer",
    "PeerRefused",
    "ServerUrl",
    "ServerUrlError",
    "TurnClient",
    "TurnEvent",
]
