"""What plugin events mean for one call, and what is not about it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from callclient import events
from callclient.events import CallEvent, JobKind
from callclient.signaling.translate import Translator
from callclient.signaling.wire import WireEvent
from callclient.state import CallState

CHANNEL = "c" * 26
OTHER = "o" * 26


class Call:
    """A translator and the state it keeps."""

    def __init__(self) -> None:
        self.state = CallState()
        self._translator = Translator(channel_id=CHANNEL, job_id="job-1", state=self.state)

    def event(self, name: str, *, channel: str = CHANNEL, **data: Any) -> list[CallEvent]:
        return self._translator.translate(WireEvent(name, True, {"channelID": channel, **data}))

    def bare(self, name: str, **data: Any) -> list[CallEvent]:
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


def test_the_call_state_is_a_string_of_json_and_replaces_everybody() -> None:
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
        events.CallStateReceived(),
        events.JobStateChanged(JobKind.RECORDING, 1, 2, 0, ""),
    ]
    assert set(call.state.participants) == {"s1", "s2"}
    assert call.state.participants["s1"].speaking, "only events tell who speaks: keep it"
    assert call.state.participants["s1"].raised_hand_at_ms == 5
    assert call.state.participants["s2"].muted
    assert (call.state.host_user_id, call.state.screen_session_id) == ("u2", "s2")


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
