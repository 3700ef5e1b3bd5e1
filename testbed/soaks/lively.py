"""A lively call: people come and go, share, wave, react and show themselves, for as long as wanted."""

from __future__ import annotations

from typing import Final

from testbed.scenario import (
    Event,
    Join,
    Leave,
    Mute,
    RaiseHand,
    React,
    Say,
    ShareScreen,
    StartCamera,
    StopCamera,
    StopScreen,
    Unmute,
)
from testbed.soaks.course import Course, Stay

ROUND_S: Final = 30.0
_SHARE_FROM_S: Final = 9.0
_SHARE_TO_S: Final = 27.0


def lively_course(minutes: float, *, quality: str = "medium") -> Course:
    """Rounds of half a minute: alice stays, bob and carol come anew in each, and share by turns."""
    rounds = max(1, int(minutes * 60 // ROUND_S))
    end_s = rounds * ROUND_S
    stays = [Stay("alice", _host(rounds))]
    for number in range(rounds):
        start_s = number * ROUND_S
        sharer, other = ("bob", "carol") if number % 2 else ("carol", "bob")
        stays.append(Stay(sharer, _sharer(sharer, start_s)))
        stays.append(Stay(other, _guest(other, start_s), rtp_stands_while_muted=True))
    return Course(tuple(stays), end_s, cameras=True, quality=quality)


def _host(rounds: int) -> tuple[Event, ...]:
    events: list[Event] = [Join(0, "alice"), Unmute(0.2, "alice")]
    for number in range(rounds):
        start_s = number * ROUND_S
        events += [
            Say(start_s + 2, "alice", number),
            React(start_s + 5, "alice"),
            RaiseHand(start_s + 6, "alice"),
            RaiseHand(start_s + 8, "alice", raised=False),
        ]
    return tuple(events)


def _sharer(bot: str, start_s: float) -> tuple[Event, ...]:
    return (
        Join(start_s + 0.5, bot),
        Unmute(start_s + 7, bot),
        ShareScreen(start_s + _SHARE_FROM_S, bot),
        Mute(start_s + 15.4, bot),
        Unmute(start_s + 18.4, bot),
        StopScreen(start_s + _SHARE_TO_S, bot),
        Leave(start_s + 28.5, bot),
    )


def _guest(bot: str, start_s: float) -> tuple[Event, ...]:
    return (
        Join(start_s + 0.8, bot),
        StartCamera(start_s + 3, bot),
        React(start_s + 11, bot),
        React(start_s + 13, bot),
        Unmute(start_s + 14.2, bot),
        Say(start_s + 15.5, bot, round(start_s)),
        Mute(start_s + 18.2, bot),
        StopCamera(start_s + 20, bot),
        Leave(start_s + 29, bot),
    )
