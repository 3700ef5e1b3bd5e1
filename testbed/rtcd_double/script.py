"""What the double does. Pure data; the defaults are the original's fixed behaviour (rtcd.md 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Script:
    """One double's, or one session's, behaviour.

    The first groups are the original's own limits and habits, which a test may shorten or switch off;
    the last one is what a network, a plugin or an unlucky moment does to signaling.
    """

    # limits (rtcd.md 3.2, 3.13)
    first_offer_timeout_s: float = 10.0
    answer_timeout_s: float = 10.0
    lock_timeout_s: float = 5.0
    queued_tracks: int = 100
    """Track changes that wait for one receiver; what comes on top is dropped without a word."""
    queued_descriptions: int = 20
    report_interval_s: float = 1.0
    """Between sender and receiver reports."""

    # habits that are defects
    ignores_colliding_offers: bool = True
    """A client's offer that comes while ours is made or open is dropped without an answer."""
    waits_for_data_channel: bool = True
    """No second offer is answered, and no track announced, before a data channel is open."""
    reuses_dead_audio: bool = False
    """Sections of speakers who left stay in every description and serve nobody again."""
    asks_for_key_frames: bool = False
    """Ask the publisher for a key frame for each new receiver."""
    key_frame_interval_s: float = 1.0
    """At most one PLI in this time goes on to a publisher's SSRC; the others are dropped."""
    keeps_audio_extensions: bool = True
    """Audio carries the publisher's header extensions under the publisher's ids."""
    names_the_receiver_in_the_map: bool = True
    """`sender_id` of the media map is the receiving session's id."""
    rejects_early_video: bool = True
    """Video whose first packet comes before `screen_on` or `video_on` is refused for good."""
    nack_buffer_packets: int = 256
    closes_at_the_joining_connection: bool = True
    """`close` goes to the connection that carried the join, wherever the session is bound now."""
    hides_failed_joins: bool = True
    """A join that cannot be has no echo at all."""

    # simulcast (rtcd.md 3.7)
    first_estimate_bps: int = 250_000
    largest_estimate_bps: int = 3_750_000
    low_window_s: float = 5.0
    """The measured rate of the layer `l` counts once twice this time has been observed."""
    high_window_s: float = 2.0
    switch_wait_s: float = 10.0
    """Between two layer changes; grows by half with each."""

    # what a test adds
    video_copies: int = 2
    """Equivalent outgoing tracks for each video: receivers see different ids of the same screen."""
    offers_av1_first: str = "random"
    """`yes` or `no` instead of the original's dice for each session."""
    announces_udp: bool = True
    announces_tcp: bool = True
    """Passive candidates on a TCP port of the same number (RFC 6544)."""
    candidates_before_answer: bool = False
    lost_offers: frozenset[int] = frozenset()
    """These offers of ours never arrive; counted from 1 for each session."""
    repeated_offers: frozenset[int] = frozenset()
    """These offers arrive twice."""
    map_after_offer: bool = False
    """The media map comes after the offer that it belongs to: two queues lead to the channel."""
    answers_arrive_after_s: float = 0.0
    """The client's answers to our offers take this long."""
    lost_answers: frozenset[int] = frozenset()
    """These answers of ours to the client's later offers never arrive; counted from 1."""
    answer_after_s: float = 0.0
    """Our answers to the client's later offers take this long."""
    lock_replies_after_s: float = 0.0
    """Replies to lock requests take this long."""
    lost_packets: frozenset[int] = frozenset()
    """Sequence numbers of video that do not arrive the first time they are sent."""
    fails_joins: bool = False
    """Every join fails, as with a host name that does not resolve."""


_WORDS = ("random", "yes", "no")


class ScriptError(ValueError):
    """A setting cannot be read; the message names it, its value and the wanted form."""


def read_script(settings: Iterable[str]) -> Script:
    """A script from `name=value` texts; sets are written `1,3`.

    Raises:
        ScriptError: unknown name, or a value of the wrong kind.
    """
    kinds: Mapping[str, Any] = {f.name: getattr(Script(), f.name) for f in fields(Script)}
    given: dict[str, Any] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in kinds:
            raise ScriptError(f"script setting {name!r} is not one of {', '.join(kinds)}")
        given[name] = _value(name, text, kinds[name])
    return Script(**given)


def _value(name: str, text: str, default: Any) -> Any:
    if isinstance(default, str) and text not in _WORDS:
        raise ScriptError(f"{name}={text}: should be random, yes or no")
    if isinstance(default, bool):
        if text not in ("true", "false"):
            raise ScriptError(f"{name}={text}: should be true or false")
        return text == "true"
    try:
        if isinstance(default, frozenset):
            return frozenset(int(part) for part in text.split(",") if part)
        return type(default)(text)
    except ValueError:
        wanted = "whole numbers with commas" if isinstance(default, frozenset) else "a number"
        raise ScriptError(f"{name}={text}: should be {wanted}") from None
