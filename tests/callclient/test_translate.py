"""What plugin events mean for one call, and what is not about it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callclient import events
from callclient.events import CallEvent, JobKind
from callclient.signaling.translate import Translator
from callclient.signaling.wire import WireEvent
from callclient.state import CallState

CHANNEL = "c" * 26
OTHER = "o" * 26
EVENTS = [
    "call_state",
    "user_joined",
    "user_left",
    "user_muted",
    "user_voice_on",
    "user_screen_on",
    "user_screen_off",
    "user_raise_hand",
    "user_reacted",
    "call_host_changed",
    "call_job_state",
    "caption",
    "job_stop",
    "call_end",
    "unheard_of",
]
KEYS = st.sampled_from(
    [
        "session_id",
        "user_id",
        "raised_hand",
        "emoji",
        "name",
        "timestamp",
        "jobState",
        "type",
        "init_at",
        "start_at",
        "sessions",
        "recording",
        "host_id",
        "screen_sharing_session_id",
        "unmuted",
        "call",
    ]
)


class Call:
    """A translator and the state it keeps."""

    def __init__(self) -> None:
        self.state = CallState()
        self._translator = Translator(channel_id=CHANNEL, job_id="job-1", state=self.state)

    def event(self, name: str, *, channel: str = CHANNEL, **data: Any) -> list[CallEvent]:
        return self._translator.translate(WireEvent(name, True, {"channelID": channel, **data}))

    def gap(self) -> None:
        self._translator.events_were_missed()

    def bare(self, name: str, **data: Any) -> list[CallEvent]:
        return self.raw(name, data)

    def raw(self, name: str, data: dict[str, Any]) -> list[CallEvent]:
        return self._translator.translate(WireEvent(name, True, data))


@pytest.mark.parametrize(
    "name",
    ["user_joined", "user_left", "user_muted", "user_screen_off", "call_job_state", "call_end"],
)
def test_events_of_other_channels_are_not_ours(name: str) -> None:
    call = Call()
    data = {"session_id": "s", "user_id": "u", "jobState": {"type": "recording"}}
    assert call.event(name, channel=OTHER, **data) == []
    assert call.state == CallState()


def test_only_the_stop_of_our_own_job_stops_us() -> None:
    call = Call()
    assert call.bare("job_stop", job_id="job-2") == []
    assert call.bare("job_stop", job_id="job-1") == [events.JobStopRequested()]


def test_the_call_state_is_a_string_of_json_and_is_merged() -> None:
    call = Call()
    call.event("user_joined", session_id="gone", user_id="u0")
    call.event("user_joined", session_id="s1", user_id="u1")
    call.event("user_unmuted", session_id="s1")
    call.event("user_voice_on", session_id="s1")
    state = {
        "sessions": [
            {"session_id": "s1", "user_id": "u1", "unmuted": True, "raised_hand": 5},
            {"session_id": "s2", "user_id": "u2", "unmuted": False},
        ],
        "host_id": "u2",
        "screen_sharing_session_id": "s2",
        "recording": {"type": "recording", "init_at": 1, "start_at": 2, "end_at": 0},
    }
    result = call.bare("call_state", channel_id=CHANNEL, call=json.dumps(state))
    assert result == [
        events.HandChanged("s1", 5),
        events.ParticipantJoined("s2", "u2"),
        events.HostChanged("u2"),
        events.ScreenShareChanged("s2"),
        events.CallStateReceived(),
        events.JobStateChanged(JobKind.RECORDING, 1, 2, 0, ""),
    ]
    assert set(call.state.participants) == {"gone", "s1", "s2"}
    assert call.state.participants["s1"].speaking, "only events tell who speaks: keep it"
    assert call.state.participants["s1"].raised_hand_at_ms == 5
    assert call.state.participants["s2"].muted
    assert (call.state.host_user_id, call.state.screen_session_id) == ("u2", "s2")


def state_of(*sessions: str, **more: Any) -> str:
    entries = [{"session_id": s, "user_id": f"user-{s}", "unmuted": False} for s in sessions]
    return json.dumps({"sessions": entries, **more})


def test_after_a_gap_the_state_says_who_came_and_went_and_nobody_else_did() -> None:
    call = Call()
    for session in ("stays", "leaves"):
        call.event("user_joined", session_id=session, user_id=f"user-{session}")
    call.gap()
    result = call.bare("call_state", channel_id=CHANNEL, call=state_of("stays", "comes"))
    assert result == [
        events.ParticipantLeft("leaves", "user-leaves"),
        events.ParticipantJoined("comes", "user-comes"),
        events.CallStateReceived(),
    ]
    assert list(call.state.participants) == ["stays", "comes"]
    again = call.bare("call_state", channel_id=CHANNEL, call=state_of("stays", "comes"))
    assert again == [events.CallStateReceived()]
    call.event("user_joined", session_id="newest", user_id="u")
    call.bare("call_state", channel_id=CHANNEL, call=state_of("stays", "comes"))
    assert "newest" in call.state.participants, "one gap is over with one state"


def test_without_a_gap_a_state_that_is_older_than_an_event_takes_nobody_away() -> None:
    """Whenever any job joins, every job is told the state (calls-plugin.md 3.2)."""
    call = Call()
    call.bare("call_state", channel_id=CHANNEL, call=state_of("first"))
    call.event("user_joined", session_id="newest", user_id="u")
    assert call.bare("call_state", channel_id=CHANNEL, call=state_of("first")) == [
        events.CallStateReceived()
    ]
    assert set(call.state.participants) == {"first", "newest"}


def test_who_is_in_the_state_already_does_not_join_once_more() -> None:
    """Joins come in batches in large channels: later than the state that holds them."""
    call = Call()
    call.bare("call_state", channel_id=CHANNEL, call=state_of("s1"))
    assert call.event("user_joined", session_id="s1", user_id="user-s1") == []


def test_a_sharer_who_left_in_the_gap_took_the_screen_along() -> None:
    call = Call()
    call.event("user_joined", session_id="s1", user_id="u1")
    call.event("user_screen_on", session_id="s1")
    call.gap()
    result = call.bare("call_state", channel_id=CHANNEL, call=state_of())
    assert events.ScreenShareChanged("") in result
    assert call.state == CallState()


def test_a_job_does_not_wait_for_its_own_join_nor_for_other_jobs() -> None:
    """Bots are in no `user_joined` and in no `call_state`."""
    call = Call()
    result = call.bare(
        "call_state",
        channel_id=CHANNEL,
        call=state_of(recording={"type": "recording", "init_at": 1, "start_at": 0, "end_at": 0}),
    )
    assert result == [
        events.CallStateReceived(),
        events.JobStateChanged(JobKind.RECORDING, 1, 0, 0, ""),
    ]


def test_whose_speaking_was_never_told_is_not_told_to_be_silent_by_a_mute() -> None:
    """Without the publisher's audio levels there is no `user_voice_on`, ever."""
    call = Call()
    call.event("user_joined", session_id="s1", user_id="u1")
    call.event("user_unmuted", session_id="s1")
    assert call.event("user_muted", session_id="s1") == [events.MuteChanged("s1", True)]


def test_two_sessions_of_the_host_are_both_the_host_s() -> None:
    call = Call()
    for session in ("desktop", "phone"):
        call.event("user_joined", session_id=session, user_id="u1")
    call.event("call_host_changed", hostID="u1")
    hosts = [p for p in call.state.participants.values() if p.user_id == call.state.host_user_id]
    assert len(hosts) == 2


def test_a_mute_ends_speaking() -> None:
    call = Call()
    call.event("user_joined", session_id="s1", user_id="u1")
    call.event("user_unmuted", session_id="s1")
    call.event("user_voice_on", session_id="s1")
    call.event("user_muted", session_id="s1")
    assert call.state.participants["s1"].muted
    assert not call.state.participants["s1"].speaking


def test_screen_off_without_a_session_means_that_nobody_shares() -> None:
    call = Call()
    assert call.event("user_screen_on", session_id="s1") == [events.ScreenShareChanged("s1")]
    assert call.event("user_screen_off") == [events.ScreenShareChanged("")]
    assert call.state.screen_session_id == ""


def test_a_sharer_who_leaves_takes_the_screen_along() -> None:
    call = Call()
    call.event("user_joined", session_id="s1", user_id="u1")
    call.event("user_screen_on", session_id="s1")
    call.event("user_left", session_id="s1", user_id="u1")
    assert call.state == CallState()


def test_a_job_state_tells_when_the_recording_started() -> None:
    job = {"type": "recording", "init_at": 1, "start_at": 1764000000000, "end_at": 0, "err": ""}
    [event] = Call().bare("call_job_state", callID=CHANNEL, jobState=job)
    assert event == events.JobStateChanged(JobKind.RECORDING, 1, 1764000000000, 0, "")


def test_the_host_is_a_user_and_may_be_nobody() -> None:
    call = Call()
    call.event("call_host_changed", hostID="u1")
    assert call.state.host_user_id == "u1"
    call.event("call_host_changed", hostID="")
    assert call.state.host_user_id == ""


def test_an_end_for_all_is_an_end() -> None:
    assert Call().event("call_end") == [events.CallEnded("the host ended the call")]


@pytest.mark.parametrize("call_json", ["", "[]", "{", "null"])
def test_a_call_state_that_cannot_be_read_changes_nothing(call_json: str) -> None:
    call = Call()
    call.event("user_joined", session_id="s1", user_id="u1")
    assert call.bare("call_state", channel_id=CHANNEL, call=call_json) == []
    assert set(call.state.participants) == {"s1"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=8,
)


@given(name=st.sampled_from(EVENTS), data=st.dictionaries(KEYS, JSON, max_size=6), call=JSON)
def test_no_event_whatever_is_in_it_breaks_the_client(name: str, data: Any, call: Any) -> None:
    one = Call()
    one.gap()
    one.raw(name, {"call": json.dumps(call)} | data | {"channelID": CHANNEL})
