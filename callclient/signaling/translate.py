"""Wire events of the plugin to call events. Knows the plugin's keys, so that nobody else must.

Filters what belongs to other channels, connections and jobs: one bot user hears all calls (trap 2).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from callclient import events
from callclient.events import CallEvent, JobKind
from callclient.signaling.wire import WireEvent
from callclient.state import CallState, Participant

_Handler = Callable[[WireEvent], list[CallEvent]]


class Translator:
    """For one stay in one call; keeps `state` up to date."""

    def __init__(self, *, channel_id: str, job_id: str, state: CallState) -> None:
        self._channel_id = channel_id
        self._job_id = job_id
        self._state = state
        self._handlers: dict[str, _Handler] = {
            "call_state": self._call_state,
            "user_joined": self._user_joined,
            "user_left": self._user_left,
            "user_muted": lambda e: self._muted(e, muted=True),
            "user_unmuted": lambda e: self._muted(e, muted=False),
            "user_voice_on": lambda e: self._speaking(e, speaking=True),
            "user_voice_off": lambda e: self._speaking(e, speaking=False),
            "user_screen_on": lambda e: self._screen(e.text("session_id")),
            "user_screen_off": lambda _: self._screen(""),
            "user_raise_hand": self._hand,
            "user_unraise_hand": self._hand,
            "user_reacted": self._reacted,
            "call_host_changed": self._host_changed,
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

    def _call_state(self, event: WireEvent) -> list[CallEvent]:
        try:
            call = json.loads(event.text("call"))  # a string of JSON, not an object (trap 6)
        except (ValueError, RecursionError):
            return []
        if not isinstance(call, dict):
            return []
        state = self._state
        previous = state.participants
        state.participants = {}
        for entry in call.get("sessions") or []:
            participant = _participant(entry)
            if participant is None:
                continue
            known = previous.get(participant.session_id)
            if known is not None and not participant.muted:
                # Who speaks is not in the state; keep what events told.
                participant = Participant(
                    participant.session_id,
                    participant.user_id,
                    participant.muted,
                    known.speaking,
                    participant.raised_hand_at_ms,
                )
            state.participants[participant.session_id] = participant
        state.host_user_id = str(call.get("host_id") or "")
        state.screen_session_id = str(call.get("screen_sharing_session_id") or "")
        result: list[CallEvent] = [events.CallStateReceived()]
        for key, kind in (
            ("recording", JobKind.RECORDING),
            ("transcription", JobKind.TRANSCRIBING),
            ("live_captions", JobKind.CAPTIONING),
        ):
            job = call.get(key)
            if isinstance(job, dict):
                result.append(_job_state(kind, job))
        return result

    def _user_joined(self, event: WireEvent) -> list[CallEvent]:
        session_id, user_id = event.text("session_id"), event.text("user_id")
        if not session_id:
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
        self._state.update(session_id, muted=muted)
        result: list[CallEvent] = [events.MuteChanged(session_id, muted)]
        if muted:
            result += self._speaking(event, speaking=False)
        return result

    def _speaking(self, event: WireEvent, *, speaking: bool) -> list[CallEvent]:
        session_id = event.text("session_id")
        self._state.update(session_id, speaking=speaking)
        return [events.SpeakingChanged(session_id, speaking)]

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
                emoji_name=str(emoji.get("name") or ""),
                emoji_unified=str(emoji.get("unified") or ""),
                emoji_literal=str(emoji.get("literal") or ""),
                at_ms=event.number("timestamp"),
            )
        ]

    def _host_changed(self, event: WireEvent) -> list[CallEvent]:
        self._state.host_user_id = event.text("hostID")
        return [events.HostChanged(event.text("hostID"))]

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


def _participant(entry: Any) -> Participant | None:
    if not isinstance(entry, dict) or not entry.get("session_id"):
        return None
    return Participant(
        session_id=str(entry["session_id"]),
        user_id=str(entry.get("user_id") or ""),
        muted=not entry.get("unmuted"),
        raised_hand_at_ms=int(entry.get("raised_hand") or 0),
    )


def _job_state(kind: JobKind, job: dict[str, Any]) -> events.JobStateChanged:
    return events.JobStateChanged(
        kind=kind,
        init_at_ms=int(job.get("init_at") or 0),
        start_at_ms=int(job.get("start_at") or 0),
        end_at_ms=int(job.get("end_at") or 0),
        error=str(job.get("err") or ""),
    )
