"""Between the control plane (HTTP, WebSocket) and the media plane (calls, sessions, packets).

The control plane knows clients and connections, the media plane calls and sessions; they meet in the
types here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sfu.messages import Close, Rtc, RtcMessage, Vad
from sfu.metrics import Snapshot

SessionOutlet = Callable[[Rtc | Vad | Close], None]
"""Where a session's messages go; must not block. Exactly one Close comes last."""


class JoinError(Exception):
    """A session cannot be made; the message says why (rtcd.md 2.3)."""

    def __init__(self, text: str, *, reason: str = "invalid") -> None:
        """`reason`: in a word, for metrics."""
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """One participant's connection (rtcd.md 1.4, 2.2)."""

    group_id: str
    """The authenticated client, that is one Mattermost installation."""
    call_id: str
    user_id: str
    session_id: str
    channel_id: str = ""
    av1_support: bool = False
    dc_signaling: bool = False


def check_ids(config: SessionConfig) -> None:
    """Raises JoinError: an id is missing."""
    for name, value in (
        ("GroupID", config.group_id),
        ("CallID", config.call_id),
        ("UserID", config.user_id),
        ("SessionID", config.session_id),
    ):
        if not value:
            raise JoinError(f"invalid {name} value: should not be empty")


class MediaServer(Protocol):
    """What the control plane uses of the media plane."""

    async def join(self, config: SessionConfig, send: SessionOutlet) -> None:
        """Make a session; it waits for the client's first offer.

        Raises:
            JoinError: an id is missing, the session exists already, or the client has too many.
        """

    async def handle(self, session_id: str, message: RtcMessage) -> None:
        """One message of a client to its session; unknown sessions are logged and ignored."""

    def rebind(self, session_id: str, send: SessionOutlet) -> bool:
        """Send the session's messages somewhere else from now on; False when it is unknown."""

    def session(self, session_id: str) -> SessionConfig | None: ...

    def sessions(self, group_id: str, call_id: str) -> list[SessionConfig] | None:
        """Everybody in a call; None when there is no such call."""

    async def leave(self, session_id: str) -> None:
        """End a session; unknown ids are fine."""

    def has_group(self, group_id: str) -> bool:
        """Does this client have any call here?"""

    def session_count(self) -> int:
        """Sessions of all clients."""

    def missing_processes(self) -> int:
        """Media processes that should serve and do not, having died, say."""

    async def snapshots(self) -> Sequence[Snapshot]:
        """What the media plane has counted, of each of its processes."""
