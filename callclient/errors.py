"""Why a call client ended early.

CallError
├── JoinRefused        the plugin answered `join` with an error event
├── SignalingFailed    the WebSocket could not be opened, authenticated, or stayed away too long
└── MediaFailed        the peer connection was not established in time, or was lost
"""

from __future__ import annotations


class CallError(Exception):
    """The call cannot be joined or was lost. The message is one plain sentence without secrets."""


class JoinRefused(CallError):
    """The plugin refused the join; `reason` is its text (calls-plugin.md 2.1)."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the call could not be joined: {reason}")
        self.reason = reason


class SignalingFailed(CallError):
    """No WebSocket, no `hello` in time, or the socket stayed away longer than the server waits."""


class MediaFailed(CallError):
    """ICE, DTLS or the data channel did not come up, or consent was lost for good."""
