"""What happens in a test call: a plan of timed events, as pure data.

Time 0 of a plan is when recording and transcription have started. Bots that are in the call from before
join before that. Everybody joins muted, as in the product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

SLOT_S: Final = 2.6
"""How long a sentence may be without moving what comes after it; all bundled clips fit."""
UNMUTE_LEAD_S: Final = 1.0
"""From unmuting to talking at least: the SFU judges voices by their last second of packets."""


class PlanError(ValueError):
    """A plan contradicts itself; the message names the event."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something a bot does."""

    at_s: float
    bot: str


@dataclass(frozen=True, slots=True)
class Join(Event):
    """Enter the call, muted. At or before 0: is there when the recording starts."""


@dataclass(frozen=True, slots=True)
class Leave(Event):
    """Leave the call for good."""


@dataclass(frozen=True, slots=True)
class Unmute(Event):
    """The first one publishes the voice."""


@dataclass(frozen=True, slots=True)
class Mute(Event):
    """No packets are sent from now on, not even silence."""


@dataclass(frozen=True, slots=True)
class Say(Event):
    """Say one clip."""

    clip: int = 0
    """Index in the bot's clips; wraps around."""


@dataclass(frozen=True, slots=True)
class ShareScreen(Event):
    """Show the generated picture; flash and beep on each whole second."""


@dataclass(frozen=True, slots=True)
class StopScreen(Event):
    """Stop sharing."""


@dataclass(frozen=True, slots=True)
class StartCamera(Event):
    """Switch the camera on."""


@dataclass(frozen=True, slots=True)
class StopCamera(Event):
    """Switch it off."""


@dataclass(frozen=True, slots=True)
class React(Event):
    """Show an emoji."""


@dataclass(frozen=True, slots=True)
class RaiseHand(Event):
    """Raise the hand, or lower it."""

    raised: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """Events in order of time, and when the host stops the recording."""

    name: str
    events: tuple[Event, ...]
    end_s: float
    """When everything is said and the host presses stop."""
    rtp_stands_while_muted: frozenset[str] = field(default_factory=frozenset)
    """Bots whose RTP time does not go on while muted, as some browsers do (calls-plugin.md trap 29)."""

    @property
    def bots(self) -> tuple[str, ...]:
        """In order of joining."""
        return tuple(event.bot for event in self.events if isinstance(event, Join))

    def fitted(self, duration_s: Callable[[Say], float]) -> Plan:
        """This plan with everything after an over-long clip moved by what it is too long."""
        events = list(self.events)
        end_s = self.end_s
        for number, event in enumerate(events):
            if not isinstance(event, Say):
                continue
            surplus_s = duration_s(event) - SLOT_S
            if surplus_s > 0:
                limit_s = event.at_s
                for later in range(number + 1, len(events)):
                    if events[later].at_s > limit_s:
                        events[later] = replace(events[later], at_s=events[later].at_s + surplus_s)
                end_s += surplus_s
        return replace(self, events=tuple(events), end_s=end_s)


def validated(plan: Plan) -> Plan:
    """`plan` itself, if it makes sense.

    Raises:
        PlanError: events out of order; a bot that acts outside its stay, talks muted or talks twice at once.
    """
    for before, event in pairwise(plan.events):
        if event.at_s < before.at_s:
            raise PlanError(f"{event} comes after {before}")
    for bot in set(plan.bots):
        _validate_bot([event for event in plan.events if event.bot == bot])
    strangers = {event.bot for event in plan.events} - set(plan.bots)
    if strangers:
        raise PlanError(f"{', '.join(sorted(strangers))}: never joins")
    if plan.events and plan.events[-1].at_s > plan.end_s:
        raise PlanError(f"{plan.events[-1]} comes after the end at {plan.end_s} s")
    return plan


def _validate_bot(events: list[Event]) -> None:
    if not isinstance(events[0], Join) or sum(isinstance(event, Join) for event in events) != 1:
        raise PlanError(f"{events[0].bot}: should join once, before everything else")
    muted, busy_until_s, may_talk_s = True, 0.0, 0.0
    for event in events:
        match event:
            case Unmute():
                muted, may_talk_s = False, event.at_s + UNMUTE_LEAD_S
            case Mute():
                muted = True
            case Say() if muted or event.at_s < may_talk_s:
                raise PlanError(f"{event}: not unmuted for {UNMUTE_LEAD_S:g} s")
            case Say() if event.at_s < busy_until_s:
                raise PlanError(f"{event}: still talking until {busy_until_s:g} s")
        if isinstance(event, Mute | Leave) and event.at_s < busy_until_s:
            raise PlanError(f"{event}: still talking until {busy_until_s:g} s")
        if isinstance(event, Say):
            busy_until_s = event.at_s + SLOT_S


FULL: Final = validated(
    Plan(
        "full",
        (
            Join(0, "alice"),
            Join(0, "bob"),
            Unmute(0.0, "alice"),
            Say(1.5, "alice", 0),
            Unmute(3.0, "bob"),
            Say(4.8, "bob", 0),
            Say(7.9, "alice", 1),
            Join(8.5, "carol"),
            Unmute(10.0, "carol"),
            # Both at once for almost two seconds.
            Say(11.5, "carol", 0),
            Say(12.2, "bob", 1),
            Mute(15.3, "bob"),
            ShareScreen(15.5, "carol"),
            Say(16.6, "alice", 2),
            Say(20.2, "carol", 1),
            Unmute(21.0, "bob"),
            Say(23.4, "bob", 2),
            Mute(26.4, "bob"),
            Say(26.6, "alice", 3),
            StopScreen(29.0, "carol"),
            Say(30.5, "carol", 2),
            Unmute(32.0, "bob"),
            Say(33.8, "bob", 3),
            Leave(36.6, "bob"),
            Say(37.0, "alice", 4),
            Say(40.2, "carol", 4),
        ),
        end_s=44.0,
        rtp_stands_while_muted=frozenset({"bob"}),
    )
)
"""About 44 s: turns, one overlap, bob mutes twice for more than 5 s and leaves early, carol comes late."""

SHORT: Final = validated(
    Plan(
        "short",
        (
            Join(0, "alice"),
            Join(0, "bob"),
            Unmute(0.0, "alice"),
            Unmute(0.0, "bob"),
            Join(1.0, "carol"),
            Say(1.5, "alice", 0),
            Unmute(3.0, "carol"),
            Say(4.2, "bob", 0),
            # Both at once.
            Say(5.2, "carol", 0),
            Mute(7.0, "bob"),
            ShareScreen(8.2, "carol"),
            Say(8.8, "alice", 2),
            Unmute(12.1, "bob"),
            Say(13.4, "bob", 2),
            StopScreen(16.2, "carol"),
            Mute(16.4, "bob"),
            Say(17.2, "carol", 2),
            Leave(17.8, "bob"),
            Say(20.0, "alice", 1),
        ),
        end_s=23.5,
        rtp_stands_while_muted=frozenset({"bob"}),
    )
)
"""About 24 s for the test tier: the same ingredients, with one mute of 5 s."""


BRIEF: Final = validated(
    Plan(
        "brief",
        (
            Join(0, "alice"),
            Join(0, "bob"),
            Join(0, "carol"),
            Unmute(0.0, "alice"),
            Unmute(0.0, "bob"),
            Say(1.3, "alice", 2),
            ShareScreen(2.6, "bob"),
            Say(4.2, "bob", 2),
            Unmute(5.5, "carol"),
            Say(7.0, "carol", 1),
            StopScreen(9.6, "bob"),
            Say(9.7, "alice", 4),
        ),
        end_s=12.6,
    )
)
"""About 13 s, for tests that record a call for something else: all voices, some flashes with their beeps."""


def _steady_marks(duration_s: float) -> Plan:
    """Beeps and flashes for twelve seconds, then silence and a grid that stands still for five."""
    events: list[Event] = [Join(0, bot) for bot in ("alice", "bob", "carol")]
    events.append(Unmute(0.0, "alice"))
    at_s = 1.0
    while at_s + 17 < duration_s:
        events += [ShareScreen(at_s, "alice"), StopScreen(at_s + 12, "alice")]
        at_s += 17
    return validated(Plan("marks", tuple(events), end_s=duration_s))


def _steady_talk(duration_s: float) -> Plan:
    """One sentence after the other, of three people in turns."""
    bots = ("alice", "bob", "carol")
    events: list[Event] = [Join(0, bot) for bot in bots]
    events += [Unmute(0.0, bot) for bot in bots]
    at_s, number = 1.5, 0
    while at_s + SLOT_S < duration_s:
        events.append(Say(at_s, bots[number % 3], number // 3))
        at_s, number = at_s + 3.2, number + 1
    return validated(Plan("talk", tuple(events), end_s=duration_s))


def _nobody_speaks(duration_s: float) -> Plan:
    joins = tuple(Join(0, bot) for bot in ("alice", "bob", "carol"))
    return validated(Plan("quiet", joins, end_s=duration_s))


_HALF_AN_HOUR_S: Final = 1800.0
MARKS: Final = _steady_marks(_HALF_AN_HOUR_S)
"""For recorders that come and go."""
TALK: Final = _steady_talk(_HALF_AN_HOUR_S)
"""For transcribers that come and go."""
QUIET: Final = _nobody_speaks(_HALF_AN_HOUR_S)
"""For recorders with nothing to do: all are muted, the picture stands still."""

PLANS: Final[Mapping[str, Plan]] = {plan.name: plan for plan in (FULL, SHORT)}

ALL_PLANS: Final[Mapping[str, Plan]] = {
    **PLANS,
    **{plan.name: plan for plan in (BRIEF, MARKS, TALK, QUIET)},
}
"""With those that nobody judges as a whole."""
