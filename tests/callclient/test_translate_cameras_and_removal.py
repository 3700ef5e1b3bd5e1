"""Cameras and removals, as the recorder shows them (calls-plugin.md 3.2)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from callclient import events
from callclient.events import CallEvent
from callclient.signaling.translate import Translator
from callclient.signaling.wire import WireEvent
from callclient.state import CallState

CHANNEL = "c" * 26


@pytest.fixture
def state() -> CallState:
    state = CallState()
    state.join("s1", "u1")
    return state


@pytest.fixture
def translate(state: CallState) -> Any:
    translator = Translator(channel_id=CHANNEL, job_id="job-1", state=state)

    def send(name: str, **data: Any) -> list[CallEvent]:
        return translator.translate(WireEvent(name, True, {"channelID": CHANNEL, **data}))

    return send


def test_a_camera_goes_on_and_off(translate: Any, state: CallState) -> None:
    on = translate("user_video_on", userID="u1", session_id="s1")
    assert on == [events.CameraChanged("s1", on=True)]
    assert state.participants["s1"].camera_on
    assert translate("user_video_off", userID="u1", session_id="s1") == [
        events.CameraChanged("s1", on=False)
    ]
    assert not state.participants["s1"].camera_on


@pytest.mark.parametrize(("told", "on"), [(True, True), (False, False), (None, False), (1, False)])
def test_the_state_tells_whose_camera_is_on(
    translate: Any, state: CallState, told: object, on: bool
) -> None:
    sessions = [{"session_id": "s1", "user_id": "u1", "video": told}]
    found = translate("call_state", call=json.dumps({"sessions": sessions}))
    assert (events.CameraChanged("s1", on=True) in found) == on
    assert state.participants["s1"].camera_on == on


def test_who_is_removed_is_told_before_they_are_gone(translate: Any, state: CallState) -> None:
    found = translate("host_removed", call_id="x", session_id="s1", user_id="u1")
    assert found == [events.ParticipantRemoved("s1", "u1")]
    assert "s1" in state.participants
