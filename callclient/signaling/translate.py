"""Wire events of the plugin to call events. Knows the plugin's keys, so that nobody else must.

Filters what belongs to other channels, connections and jobs: one bot user hears all calls (trap 2).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from callclient import events
from callclient.events import CallEvent, JobKind
from callclient.signaling.wire import WireEvent, whole_number
from callclient.state import CallState, Participant

_Handler = Callable[[WireEvent], list[CallEvent]]


class Translator:
    """For one stay in one call; keeps `state` up to date."""

    def __init__(self, *, channel_id: str, job_id: str, state: CallState) -> None:
        self._channel_id = channel_id
        self._job_id = job_id
        self._state = state
        self._gap = False
        self._handlers: dict[str, _Handler] = {
            "call_state": self._call_state,
            "user_joined": self._user_joined,
            "user_left": self._user_left,
            "user_muted": lambda e: self._muted(e, muted=True),
            "user_unmuted": lambda e: self._muted(e, muted=False),
            "user_voice_on": lambda e: self._speaking(e, speaking=True),
            "user_voice_off": lambda e: self._speaking(e, speaking=False),
            "user_video_on": lambda e: self._camera(e, on=True),
            "user_video_off": lambda e: self._camera(e, on=False),
            "user_screen_on": lambda e: self._screen(e.text("session_id")),
            "user_screen_off": lambda _: self._screen(""),
            "user_raise_hand": self._hand,
            "user_unraise_hand": self._hand,
            "user_reacted": self._reacted,
            "call_host_changed": self._host_changed,
            "host_removed": self._removed,
            "call_job_state": self._job_state,
            "caption": self._caption,
        }

    def translate(self, event: WireEvent) -> list[CallEvent]:
        """What an event means for this call; empty when it is not about it."""
        if event.name == "job_stop":  # carries no channel: only the job's id tells (trap 2)
            mine = bool(self._job_id) and event.text("job_id") == self._job_id
            return [events.JobStopRequested()] if mine else []
        if event.channel_id() != self._channel_id:
            return []
        if event.name == "call_end":
            return [events.CallEnded("the host ended the call")]
        handler = self._handlers.get(event.name)
        return handler(event) if handler is not None else []

    def events_were_missed(self) -> None:
        """There was a gap: the next `call_state` says who came and went in it (trap 12)."""
        self._gap = True

    def _call_state(self, event: WireEvent) -> list[CallEvent]:
        try:
            call = json.loads(event.text("call"))  # a string of JSON, not an object (trap 6)
        except (ValueError, RecursionError):
            return []
        if not isinstance(call, dict):
            return []
        screen_before = self._state.screen_session_id
        result = self._merge(_participants(call))
        result += self._merge_host(_text(call, "host_id"))
        screen = _text(call, "screen_sharing_session_id")
        if screen != screen_before:
            result += self._screen(screen)
        self._state.screen_session_id = screen
        result.append(events.CallStateReceived())
        for key, kind in (
            ("recording", JobKind.RECORDING),
            ("transcription", JobKind.TRANSCRIBING),
            ("live_captions", JobKind.CAPTIONING),
        ):
            job = call.get(key)
            if isinstance(job, dict):
                result.append(_job_state(kind, job))
        return result

    def _merge(self, told: dict[str, Participant]) -> list[CallEvent]:
        """Take over what is told; returns what has changed by it, and nothing for what has not.

        Others' requests make the server tell the state at any time (section 3.2). It may be older than what
        events said since: only after a gap does it say that somebody has left.
        """
        state, result = self._state, list[CallEvent]()
        if self._gap:
            for session_id in [s for s in state.participants if s not in told]:
                result.append(
                    events.ParticipantLeft(session_id, state.participants[session_id].user_id)
                )
                state.leave(session_id)
            self._gap = False
        for session_id, new in told.items():
            known = state.participants.get(session_id)
            if known is None:
                result.append(events.ParticipantJoined(session_id, new.user_id))
                known = Participant(session_id, new.user_id)
            # Who speaks is not in the state; keep what events told.
            speaking = known.speaking and not new.muted
            state.participants[session_id] = replace(new, speaking=speaking)
            if known.muted != new.muted:
                result.append(events.MuteChanged(session_id, new.muted))
            if known.speaking != speaking:
                result.append(events.SpeakingChanged(session_id, speaking))
            if known.raised_hand_at_ms != new.raised_hand_at_ms:
                result.append(events.HandChanged(session_id, new.raised_hand_at_ms))
            if known.camera_on != new.camera_on:
                result.append(events.CameraChanged(session_id, new.camera_on))
        return result

    def _merge_host(self, user_id: str) -> list[CallEvent]:
        if self._state.host_user_id == user_id:
            return []
        self._state.host_user_id = user_id
        return [events.HostChanged(user_id)]

    def _user_joined(self, event: WireEvent) -> list[CallEvent]:
        session_id, user_id = event.text("session_id"), event.text("user_id")
        if not session_id:
            return []
        if (
            session_id in self._state.participants
        ):  # the state told it before, when joins come in batches
            return []
        self._state.join(session_id, user_id)
        return [events.ParticipantJoined(session_id, user_id)]

    def _user_left(self, event: WireEvent) -> list[CallEvent]:
        session_id = event.text("session_id")
        if not session_id:
            return []
        self._state.leave(session_id)
        return [events.ParticipantLeft(session_id, event.text("user_id"))]

    def _muted(self, event: WireEvent, *, muted: bool) -> list[CallEvent]:
        session_id = event.text("session_id")
        known = self._state.participants.get(session_id)
        self._state.update(session_id, muted=muted)
        result: list[CallEvent] = [events.MuteChanged(session_id, muted)]
        if muted and known is not None and known.speaking:
            # Only then: whose speaking the server never tells must not look silent (trap 30).
            result += self._speaking(event, speaking=False)
        return result

    def _speaking(self, event: WireEvent, *, speaking: bool) -> list[CallEvent]:
        session_id = event.text("session_id")
        self._state.update(session_id, speaking=speaking)
        return [events.SpeakingChanged(session_id, speaking)]

    def _camera(self, event: WireEvent, *, on: bool) -> list[CallEvent]:
        session_id = event.text("session_id")
        self._state.update(session_id, camera_on=on)
        return [events.CameraChanged(session_id, on)]

    def _screen(self, session_id: str) -> list[CallEvent]:
        # `user_screen_off` may name nobody when the sharer left (trap 5).
        self._state.screen_session_id = session_id
        return [events.ScreenShareChanged(session_id)]

    def _hand(self, event: WireEvent) -> list[CallEvent]:
        session_id, raised_at_ms = event.text("session_id"), event.number("raised_hand")
        self._state.update(session_id, raised_hand_at_ms=raised_at_ms)
        return [events.HandChanged(session_id, raised_at_ms)]

    def _reacted(self, event: WireEvent) -> list[CallEvent]:
        emoji = event.data.get("emoji")
        emoji = emoji if isinstance(emoji, dict) else {}
        return [
            events.Reacted(
                session_id=event.text("session_id"),
                emoji_name=_text(emoji, "name"),
                emoji_unified=_text(emoji, "unified"),
                emoji_literal=_text(emoji, "literal"),
                at_ms=event.number("timestamp"),
            )
        ]

    def _host_changed(self, event: WireEvent) -> list[CallEvent]:
        self._state.host_user_id = event.text("hostID")
        return [events.HostChanged(event.text("hostID"))]

    def _removed(self, event: WireEvent) -> list[CallEvent]:
        return [events.ParticipantRemoved(event.text("session_id"), event.text("user_id"))]

    def _job_state(self, event: WireEvent) -> list[CallEvent]:
        job = event.data.get("jobState")
        if not isinstance(job, dict):
            return []
        try:
            kind = JobKind(job.get("type"))
        except ValueError:
            return []
        return [_job_state(kind, job)]

    def _caption(self, event: WireEvent) -> list[CallEvent]:
        return [
            events.CaptionReceived(
                event.text("session_id"), event.text("user_id"), event.text("text")
            )
        ]


def _participants(call: dict[str, Any]) -> dict[str, Participant]:
    """By session id; entries that name none are left out."""
    sessions = call.get("sessions")
    result: dict[str, Participant] = {}
    for entry in sessions if isinstance(sessions, list) else []:
        session_id = _text(entry, "session_id") if isinstance(entry, dict) else ""
        if session_id:
            result[session_id] = Participant(
                session_id=session_id,
                user_id=_text(entry, "user_id"),
                muted=not entry.get("unmuted"),
                raised_hand_at_ms=whole_number(entry.get("raised_hand")),
                camera_on=entry.get("video") is True,
            )
    return result


def _job_state(kind: JobKind, job: dict[str, Any]) -> events.JobStateChanged:
    return events.JobStateChanged(
        kind=kind,
        init_at_ms=whole_number(job.get("init_at")),
        start_at_ms=whole_number(job.get("start_at")),
        end_at_ms=whole_number(job.get("end_at")),
        error=_text(job, "err"),
    )


def _text(value: dict[str, Any], key: str) -> str:
    text = value.get(key)
    return text if isinstance(text, str) else ""
