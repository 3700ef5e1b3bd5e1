"""What a step has found: a verdict, what was looked at, its value, the cause and the exact fix. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """How good it is; the words are those of the report and of the JSON."""

    OK = "ok"
    NOTE = "note"
    """Works; somebody may want to know, or can make it better."""
    WARNING = "warning"
    """Works now; something will fail under load, at a restart, at a date."""
    FAILURE = "failure"
    """Jobs or the service do not work."""
    SKIPPED = "skipped"
    """Not looked at; `cause` says why."""

    @property
    def badness(self) -> int:
        """0: nothing to do; 1: a warning; 2: a failure."""
        return {Verdict.WARNING: 1, Verdict.FAILURE: 2}.get(self, 0)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """`FAILURE`, `WARNING` or, where there is neither, `OK`."""
    found = set(verdicts)
    return next((bad for bad in (Verdict.FAILURE, Verdict.WARNING) if bad in found), Verdict.OK)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. Texts are for a person, one line each; none holds a secret."""

    verdict: Verdict
    code: str
    """Stable name for programs and for docs/doctor.md, such as `docker_socket_denied`."""
    what: str
    """What was looked at: `Docker Engine`, `store.data_source`."""
    value: str = ""
    """What was there."""
    cause: str = ""
    """Why the verdict is no OK, or why it was not looked at."""
    fix: tuple[str, ...] = ()
    """Commands or settings that put it right, one each, ready to paste."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Measured values for programs; only what JSON knows."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Key of our configuration to the value measured for it: what `--write` puts in."""
    plugin: Mapping[str, Any] = field(default_factory=dict)
    """Key of the Calls plugin's configuration (calls-plugin.md), such as `JobServiceURL`, to its value."""

    def document(self) -> dict[str, Any]:
        """For JSON; every key is always there."""
        return {
            "verdict": self.verdict.value,
            "code": self.code,
            "what": self.what,
            "value": self.value,
            "cause": self.cause,
            "fix": list(self.fix),
            "data": dict(self.data),
            "settings": dict(self.settings),
            "plugin": dict(self.plugin),
        }


def ok(code: str, what: str, value: str = "", **more: Any) -> Finding:
    """As it should be."""
    return Finding(Verdict.OK, code, what, value, **more)


def note(code: str, what: str, value: str = "", **more: Any) -> Finding:
    """Works, and worth knowing."""
    return Finding(Verdict.NOTE, code, what, value, **more)


def warning(code: str, what: str, value: str = "", **more: Any) -> Finding:
    """Works now; give `cause` and `fix`."""
    return Finding(Verdict.WARNING, code, what, value, **more)


def failure(code: str, what: str, value: str = "", **more: Any) -> Finding:
    """Does not work; give `cause` and `fix`."""
    return Finding(Verdict.FAILURE, code, what, value, **more)


def skipped(code: str, what: str, cause: str, **more: Any) -> Finding:
    """Not looked at, because of `cause`."""
    return Finding(Verdict.SKIPPED, code, what, cause=cause, **more)
