"""What really happened in a test call: written by the bots, read by the analysis.

One JSON object per line. Times are the host's monotonic clock in ns, which all processes of one Linux
host share; `epoch_ms` repeats each for people and for the server's clock.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from testbed.speech.clips import Clip, Word

_NS: Final = 1_000_000_000
_NS_PER_MS: Final = 1_000_000

MarkKind = Literal[
    "join", "leave", "mute", "unmute", "beep", "flash", "screen_start", "screen_stop"
]


@dataclass(frozen=True, slots=True)
class Utterance:
    """One sentence as it was sent."""

    bot: str
    clip: str
    text: str
    words: tuple[Word, ...]
    """Times from the start of the clip."""
    start_ns: int
    """When the clip's first sample was due."""

    @property
    def onset_ns(self) -> int:
        """The first sound of the first word."""
        return self.word_start_ns(0)

    @property
    def end_ns(self) -> int:
        """The end of the last word."""
        return self.word_end_ns(-1)

    def word_start_ns(self, index: int) -> int:
        return self.start_ns + round(self.words[index].start_s * _NS)

    def word_end_ns(self, index: int) -> int:
        return self.start_ns + round(self.words[index].end_s * _NS)


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at one moment."""

    kind: MarkKind
    bot: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class Truth:
    """A whole call, in order of time."""

    epoch_offset_ns: int = 0
    """Wall time minus monotonic time."""
    utterances: tuple[Utterance, ...] = ()
    marks: tuple[Mark, ...] = ()
    sessions: dict[str, str] = field(default_factory=dict)
    """Session id to bot."""

    def times_ns(self, kind: MarkKind, bot: str | None = None) -> list[int]:
        """When marks of `kind` were made, by `bot` or by anybody."""
        return [mark.at_ns for mark in self.marks if mark.kind == kind and bot in (None, mark.bot)]

    def monotonic_ns(self, epoch_ms: int) -> int:
        """A wall time as monotonic time."""
        return epoch_ms * _NS_PER_MS - self.epoch_offset_ns

    def present(self, at_ns: int) -> list[str]:
        """Bots in the call at that moment, sorted."""
        inside: set[str] = set()
        for mark in self.marks:
            if mark.at_ns <= at_ns and mark.kind in ("join", "leave"):
                (inside.add if mark.kind == "join" else inside.discard)(mark.bot)
        return sorted(inside)

    def muted(self, bot: str, at_ns: int) -> bool:
        """Was `bot` muted at that moment? Everybody joins muted."""
        muted = True
        for mark in self.marks:
            if mark.bot == bot and mark.at_ns <= at_ns and mark.kind in ("mute", "unmute"):
                muted = mark.kind == "mute"
        return muted


class TruthLog:
    """Appends to a file, line by line, so that it can be read while the call goes on."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", buffering=1)
        self._epoch_offset_ns = time.time_ns() - time.monotonic_ns()
        self._write({"kind": "clock", "epoch_offset_ns": self._epoch_offset_ns})

    def mark(self, kind: MarkKind, bot: str, at_ns: int, **more: str) -> None:
        """Note one moment."""
        self._write({"kind": kind, "bot": bot, "at_ns": at_ns, **self._wall(at_ns), **more})

    def utterance(self, bot: str, clip: Clip, start_ns: int) -> None:
        """Note that `bot` begins to say `clip`."""
        words = [{"word": w.text, "start_s": w.start_s, "end_s": w.end_s} for w in clip.words]
        self._write(
            {
                "kind": "utterance",
                "bot": bot,
                "clip": clip.name,
                "text": clip.text,
                "words": words,
                "start_ns": start_ns,
                **self._wall(start_ns),
            }
        )

    def close(self) -> None:
        self._file.close()

    def _wall(self, at_ns: int) -> dict[str, int]:
        return {"epoch_ms": (at_ns + self._epoch_offset_ns) // _NS_PER_MS}

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")


def read_truth(path: Path) -> Truth:
    """The truth so far; a last line that is still being written is left out.

    Raises:
        OSError: no such file.
    """
    offset_ns = 0
    utterances: list[Utterance] = []
    marks: list[Mark] = []
    sessions: dict[str, str] = {}
    for record in read_jsonl(path):
        match record["kind"]:
            case "clock":
                offset_ns = record["epoch_offset_ns"]
            case "utterance":
                utterances.append(_utterance(record))
            case kind:
                marks.append(Mark(kind, record["bot"], record["at_ns"]))
                if kind == "join":
                    sessions[record["session_id"]] = record["bot"]
    utterances.sort(key=lambda utterance: utterance.start_ns)
    marks.sort(key=lambda mark: mark.at_ns)
    return Truth(offset_ns, tuple(utterances), tuple(marks), sessions)


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The complete lines of a file of JSON objects."""
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n") and line.strip():
            yield json.loads(line)


def _utterance(record: dict[str, Any]) -> Utterance:
    return Utterance(
        bot=record["bot"],
        clip=record["clip"],
        text=record["text"],
        words=_words(record["words"]),
        start_ns=record["start_ns"],
    )


def _words(values: Sequence[dict[str, Any]]) -> tuple[Word, ...]:
    return tuple(Word(v["word"], float(v["start_s"]), float(v["end_s"])) for v in values)
