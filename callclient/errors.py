"""Why a call client ended early.

CallError
├── JoinRefused          the plugin answered `join` with an error event; one class for each reason
├── SignalingFailed      the WebSocket could not be opened or stayed away too long
│   └── NotAuthenticated it opened, but the server never said `hello`
└── MediaFailed          the peer connection was not established in time, or was lost
"""

from __future__ import annotations


class CallError(Exception):
    """The call cannot be joined or was lost. The message is one plain sentence without secrets."""


class JoinRefused(CallError):
    """The plugin refused the join; `reason` is its text (calls-plugin.md 2.1)."""

    plain = "the server refuses it"
    """What the reason means, for the people in the call."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the call could not be joined: {self.plain} ({reason or 'no reason'})")
        self.reason = reason

    @staticmethod
    def of(reason: str) -> JoinRefused:
        """The error of the class that belongs to the plugin's text; JoinRefused itself for one unknown."""
        return _BY_REASON.get(reason, JoinRefused)(reason)


class Forbidden(JoinRefused):
    plain = "this user may not enter the channel"


class ChannelArchived(JoinRefused):
    plain = "the channel is archived"


class AlreadyConnected(JoinRefused):
    plain = "this connection is in a call already"


class CallHasEnded(JoinRefused):
    plain = "the call has ended"


class CallFull(JoinRefused):
    """Jobs count too (trap 50)."""

    plain = "the call is full"


class JobIdMissing(JoinRefused):
    plain = "the job has no ID"


class NoJobInProgress(JoinRefused):
    plain = "the call has no recording or transcription in progress"


class JobNotAwaited(JoinRefused):
    """Also what a job meets that has reported `started` and lost its session (trap 11)."""

    plain = "the call does not wait for this job, or it has started already"


class CallsDisabled(JoinRefused):
    plain = "calls are disabled in the channel"


class NotPermitted(JoinRefused):
    plain = "the user lacks the permission"


class NotLicensed(JoinRefused):
    plain = "the server's licence allows calls in direct messages only"


class SignalingFailed(CallError):
    """No WebSocket, or it stayed away longer than a session lives without it."""


class NotAuthenticated(SignalingFailed):
    """A bad token still opens a WebSocket: only the missing `hello` tells (trap 14)."""


class MediaFailed(CallError):
    """ICE, DTLS or the data channel did not come up, or consent was lost for good."""


_BY_REASON: dict[str, type[JoinRefused]] = {
    "forbidden": Forbidden,
    "cannot join call in archived channel": ChannelArchived,
    "session is already connected": AlreadyConnected,
    "call has ended": CallHasEnded,
    "user cannot join because of limits": CallFull,
    "JobID should not be empty for bot connections": JobIdMissing,
    "no job in progress": NoJobInProgress,
    "job not in progress or already started": JobNotAwaited,
    "calls are disabled in the channel": CallsDisabled,
    "insufficient permissions": NotPermitted,
    "unlicensed servers only allow calls in DMs": NotLicensed,
}
"""Thread errors and an unknown channel have no fixed text."""
