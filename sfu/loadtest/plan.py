"""What a run is asked to do, and who of it lives in which process. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from sfu.loadtest.stamp import SCREEN, VOICE, track_number

AUDIO_PACKETS_PER_S: Final = 50
LOSS_DIRECTIONS: Final = ("down", "up", "both")


class PlanError(ValueError):
    """An option cannot be used; the message names it, its value and what is wanted."""


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """Everything that all processes of a run must know."""

    url: str
    """`http(s)://host:port` of the SFU's API."""
    client_id: str
    auth_key: str
    call_prefix: str
    """Calls are named by it and their number."""
    session_prefix: str
    """Session ids begin with it: two runs may meet in one call."""
    recorded_calls: tuple[str, ...] = ()
    """Ids of calls that exist already and get recorded: they come first."""
    calls: int = 1
    users_per_call: int = 2
    first_user: int = 0
    """The users of each call below this one come from another run, under the same `call_prefix`."""
    unmuted: int = 0
    """Per call: its first users."""
    screen_sharing: int = 0
    """Number of calls whose first user shares a screen."""
    join_rate: float = 10.0
    """Joins per second, all processes together."""
    duration_s: float = 30.0
    loss_percent: float = 0.0
    loss_direction: str = "down"
    """Which packets get lost: those to the participants, those of the participants, or both."""
    audio_bytes: int = 200
    """Payload of a voice packet; 200 is 80 kb/s."""
    video_bps: int = 1_600_000
    video_packet_bytes: int = 1200
    """RTP header included."""
    video_frames_per_s: int = 20
    dc_signaling: bool = True
    """Ask for the server's offers over the data channel."""
    tcp: bool = False
    """ICE-TCP instead of UDP."""
    transport_cc: bool = True
    """Report arrivals to the SFU as browsers do, when it offers that."""
    delay_every: int = 1
    """The delay of every n-th packet is recorded; all are read, decrypted and counted."""
    join_timeout_s: float = 15.0
    """As the web client."""
    settle_timeout_s: float = 20.0
    local_address: str = "127.0.0.1"
    """Where the participants' sockets are bound."""

    def __post_init__(self) -> None:
        _at_least("--calls", self.calls, 1)
        _at_least("--users-per-call", self.users_per_call, 1)
        _between("--first-user", self.first_user, 0, self.users_per_call - 1)
        _between("--unmuted", self.unmuted, 0, self.users_per_call)
        _between("--screen-sharing", self.screen_sharing, 0, self.calls)
        _between("--loss", self.loss_percent, 0, 100)
        _between("--audio-bytes", self.audio_bytes, 40, 1200)
        _between("--video-packet-bytes", self.video_packet_bytes, 500, 1200)
        _at_least("--video-frames", self.video_frames_per_s, 1)
        _at_least("--video-kbps", self.video_bps, 1000)
        _at_least("--delay-every", self.delay_every, 1)
        if self.join_rate <= 0:
            raise PlanError(
                f"--join-rate {self.join_rate:g}: should be more than 0 joins per second"
            )
        if self.duration_s <= 0:
            raise PlanError(f"--duration {self.duration_s:g}: should be more than 0 seconds")
        if self.loss_direction not in LOSS_DIRECTIONS:
            wanted = ", ".join(LOSS_DIRECTIONS)
            raise PlanError(f"--loss-direction {self.loss_direction!r}: should be one of {wanted}")

    @property
    def participants(self) -> int:
        """Of this run."""
        return self.calls * (self.users_per_call - self.first_user)

    @property
    def video_packets_per_s(self) -> float:
        return self.video_bps / 8 / self.video_packet_bytes

    def call_id(self, call: int) -> str:
        """What the SFU knows the call by."""
        recorded = self.recorded_calls
        return recorded[call] if call < len(recorded) else f"{self.call_prefix}{call}"

    def participant(self, number: int) -> Participation:
        """Who number `number` (from 0) is; calls fill up side by side, as they would."""
        user, call = divmod(number, self.calls)
        return Participation(
            number=number,
            call=call,
            user=user,
            unmuted=user < self.unmuted,
            shares_screen=user == 0 and call < self.screen_sharing,
        )

    def tracks_of_call(self, call: int) -> frozenset[int]:
        """All tracks that a call has when everybody is in."""
        voices = (track_number(user * self.calls + call, VOICE) for user in range(self.unmuted))
        screens = [track_number(call, SCREEN)] if call < self.screen_sharing else []
        return frozenset([*voices, *screens])

    def packets_in_per_s(self) -> float:
        """What all participants of this run send."""
        speakers = self.calls * max(0, self.unmuted - self.first_user)
        screens = 0 if self.first_user else self.screen_sharing
        return speakers * AUDIO_PACKETS_PER_S + screens * self.video_packets_per_s

    def packets_out_per_s(self) -> float:
        """What the SFU has to send for them, without loss."""
        return self.packets_in_per_s() * (self.users_per_call - 1)

    def share(self, process: int, processes: int) -> Iterator[int]:
        """The participants that live in one of several processes; numbers count all users of all calls."""
        first = self.first_user * self.calls
        return iter(range(first + process, first + self.participants, processes))

    def to_json(self) -> dict[str, Any]:
        """For `from_json` in another process; it holds the key."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> LoadPlan:
        return cls(**{**document, "recorded_calls": tuple(document["recorded_calls"])})


@dataclass(frozen=True, slots=True)
class Participation:
    """One participant's part."""

    number: int
    call: int
    user: int
    unmuted: bool
    shares_screen: bool


def _at_least(option: str, value: float, least: float) -> None:
    if value < least:
        raise PlanError(f"{option} {value:g}: should be at least {least:g}")


def _between(option: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise PlanError(f"{option} {value:g}: should be between {least:g} and {most:g}")
