"""What happens in a call, as its client tells it.

All identifiers are the plugin's 26-character ids. A session is one participant's connection; one user
may have several. Times named `*_ms` are the server's epoch milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from callclient.receive.tracks import RemoteTrack


class JobKind(Enum):
    """The three jobs a call can have (calls-plugin.md 3.2, `jobState.type`)."""

    RECORDING = "recording"
    TRANSCRIBING = "transcribing"
    CAPTIONING = "captioning"


@dataclass(frozen=True, slots=True)
class Joined:
    """The join was accepted and media is connected; sent once, before any track."""

    session_id: str
    """Our own session."""


@dataclass(frozen=True, slots=True)
class CallStateReceived:
    """The whole state arrived and was merged; read `CallClient.state`."""


@dataclass(frozen=True, slots=True)
class ParticipantJoined:
    session_id: str
    user_id: str


@dataclass(frozen=True, slots=True)
class ParticipantLeft:
    session_id: str
    user_id: str


@dataclass(frozen=True, slots=True)
class MuteChanged:
    session_id: str
    muted: bool


@dataclass(frozen=True, slots=True)
class SpeakingChanged:
    """The SFU's voice activity; needs the publisher's audio levels, so it may never come."""

    session_id: str
    speaking: bool


@dataclass(frozen=True, slots=True)
class VoiceHeard:
    """Our own voice activity, by the levels that the publisher sends along; where it sends none, it never
    comes, and whoever decodes the sound can tell (`RemoteTrack.speech`)."""

    session_id: str
    speaking: bool


@dataclass(frozen=True, slots=True)
class CameraChanged:
    """Whether a session's camera is on; its pictures come as a track that outlives that."""

    session_id: str
    on: bool


@dataclass(frozen=True, slots=True)
class HandChanged:
    session_id: str
    raised_at_ms: int
    """0 when lowered."""


@dataclass(frozen=True, slots=True)
class Reacted:
    session_id: str
    emoji_name: str
    emoji_unified: str
    """Code points in hex joined by '-', such as `1f389`; may be empty."""
    emoji_literal: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class ScreenShareChanged:
    session_id: str
    """The sharer, or empty when nobody shares."""


@dataclass(frozen=True, slots=True)
class HostChanged:
    user_id: str
    """May be empty."""


@dataclass(frozen=True, slots=True)
class ParticipantRemoved:
    """The host sends somebody out; `ParticipantLeft` follows within 3 s."""

    session_id: str
    user_id: str


@dataclass(frozen=True, slots=True)
class JobStateChanged:
    kind: JobKind
    init_at_ms: int
    start_at_ms: int
    """0 while starting."""
    end_at_ms: int
    """Above 0 when over."""
    error: str
    """Empty when fine."""


@dataclass(frozen=True, slots=True)
class JobStopRequested:
    """`job_stop` for our own job: finish what is there and publish it."""


@dataclass(frozen=True, slots=True)
class CaptionReceived:
    """A live caption (participants only; jobs ignore it)."""

    session_id: str
    user_id: str
    text: str


@dataclass(frozen=True, slots=True)
class TrackAdded:
    track: RemoteTrack


@dataclass(frozen=True, slots=True)
class TrackEnded:
    """No more frames will come from this track; its frames already received can still be read."""

    track: RemoteTrack


@dataclass(frozen=True, slots=True)
class SignalingLost:
    """The WebSocket is gone; media goes on while the client reconnects."""


@dataclass(frozen=True, slots=True)
class SignalingRestored:
    """The WebSocket is back under the same session; the state was asked for again."""


@dataclass(frozen=True, slots=True)
class MediaLost:
    """Nothing comes from the SFU any more, not even what it answers every second; the client looks for
    another way. Sent two seconds after the fact. What is said meanwhile is lost: it is nobody's silence."""

    since_ns: int
    """When the last packet came, monotonic."""


@dataclass(frozen=True, slots=True)
class MediaRestored:
    """The first packet came after `MediaLost`."""

    at_ns: int
    """Monotonic."""


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The host ended the call for all or removed us from it; always the last event unless
    `CallClient.leave` was called or `run` raised."""

    reason: str


CallEvent = (
    Joined
    | CallStateReceived
    | ParticipantJoined
    | ParticipantLeft
    | MuteChanged
    | SpeakingChanged
    | VoiceHeard
    | CameraChanged
    | HandChanged
    | Reacted
    | ScreenShareChanged
    | HostChanged
    | ParticipantRemoved
    | JobStateChanged
    | JobStopRequested
    | CaptionReceived
    | TrackAdded
    | TrackEnded
    | SignalingLost
    | SignalingRestored
    | MediaLost
    | MediaRestored
    | CallEnded
)
