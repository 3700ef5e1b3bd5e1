"""What the bots tell while the call goes on, for those who wait for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from testbed.analysis.call import Call
from testbed.analysis.captions import Caption, judge_caption
from testbed.bots.world import World
from testbed.truth import read_truth

_NS: Final = 1_000_000_000
_FAR_NS: Final = 1 << 62
CaptionShown = Callable[[Caption, float | None], None]
"""Called with each caption and its lag, s; None when its words are not of the truth."""


class CallFailed(Exception):
    """The call did not go as planned; the message says what and which log to read."""


class Conversation:
    """Fed with the bots' JSON lines."""

    def __init__(
        self, world: World, *, truth_file: Path, captions_file: Path, on_caption: CaptionShown
    ) -> None:
        self._world = world
        self._truth_file = truth_file
        self._captions = captions_file.open("w", encoding="utf-8", buffering=1)
        self._on_caption = on_caption
        self._changed = asyncio.Condition()
        self.captions: list[Caption] = []
        self.plan_s: float | None = None
        """How long the bots will talk; None until they began."""
        self.finished = False
        self.job_states: dict[str, dict[str, Any]] = {}
        """The newest state per kind, as the host's bot saw it."""
        self._joined: set[str] = set()

    async def tell(self, record: dict[str, Any]) -> None:
        """One line of the bots."""
        match record.get("event"):
            case "joined":
                self._joined.add(record["bot"])
            case "started":
                self.plan_s = float(record["end_s"])
            case "finished":
                self.finished = True
            case "job_state" if record["bot"] == self._world.host:
                self.job_states[record["kind"]] = record
            case "caption" if record["bot"] == self._world.host:
                self._caption(record)
        async with self._changed:
            self._changed.notify_all()

    async def wait_for(self, what: str, condition: Callable[[], bool], *, limit_s: float) -> None:
        """Wait until `condition` holds.

        Raises:
            CallFailed: a job reported an error, or the limit has passed.
        """
        try:
            async with asyncio.timeout(limit_s), self._changed:
                while not condition():
                    self._raise_job_errors()
                    await self._changed.wait()
        except TimeoutError:
            raise CallFailed(f"{what}: not within {limit_s:g} s") from None

    def joined(self, bots: set[str]) -> bool:
        return bots <= self._joined

    def started(self, kind: str) -> bool:
        return int(self.job_states.get(kind, {}).get("start_at_ms", 0)) > 0

    def ended(self, kind: str) -> bool:
        return int(self.job_states.get(kind, {}).get("end_at_ms", 0)) > 0

    def call(self) -> Call:
        """The truth so far, in recording time."""
        truth = read_truth(self._truth_file)
        recording = self.job_states["recording"]
        end_ms = recording["end_at_ms"]
        return Call(
            truth,
            self._world.users,
            zero_ns=truth.monotonic_ns(recording["start_at_ms"]),
            end_ns=truth.monotonic_ns(end_ms) if end_ms else _FAR_NS,
        )

    def close(self) -> None:
        self._captions.close()

    def _caption(self, record: dict[str, Any]) -> None:
        if not self.started("recording"):
            return
        call = self.call()
        bot = call.truth.sessions.get(record["session_id"])
        speaker = self._world.users[bot].transcript_name if bot is not None else "?"
        caption = Caption(call.time_s(record["received_ns"]), speaker, record["text"])
        lag_s = judge_caption(caption, call.spoken_so_far()).lag_s
        self.captions.append(caption)
        line = {
            "received_at_s": round(caption.received_s, 3),
            "speaker": speaker,
            "session_id": record["session_id"],
            "text": caption.text,
            "lag_s": None if lag_s is None else round(lag_s, 3),
        }
        self._captions.write(json.dumps(line) + "\n")
        self._on_caption(caption, lag_s)

    def _raise_job_errors(self) -> None:
        for kind, state in self.job_states.items():
            if state["error"]:
                raise CallFailed(f"{kind} failed: {state['error']}")
