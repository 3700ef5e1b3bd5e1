"""What an ICE agent tells its owner."""

from __future__ import annotations

from dataclasses import dataclass

from rtc.ice.path import Path


@dataclass(frozen=True, slots=True)
class PathValidated:
    """A STUN message with the right password came over `path`: its address may be bound to this agent."""

    path: Path


@dataclass(frozen=True, slots=True)
class PathReleased:
    """The agent has no more use for `path`: unbind its address, close its TCP flow."""

    path: Path


@dataclass(frozen=True, slots=True)
class ConnectTcp:
    """Open a TCP flow from `path.local` (port chosen freely) to `path.remote`.

    Answered by `IceAgent.path_opened` or `IceAgent.path_lost`; the flow keeps this path as its name.
    """

    path: Path


@dataclass(frozen=True, slots=True)
class Selected:
    """From now on media goes over `path`."""

    path: Path


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The selected path has not answered for 5 s, or its flow is closed. It may come back."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """Answers come again, on the old path or on one newly selected."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The end, unless there is a restart: consent expired (RFC 7675), or no pair ever worked."""

    reason: str
    """Names the pairs that were tried."""


IceEvent = PathValidated | PathReleased | ConnectTcp | Selected | Disconnected | Recovered | Failed
