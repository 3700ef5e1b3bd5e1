"""The report for people: a verdict's word before each line, so that no colour is needed to read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from offloader.doctor.examination import Examination, StepResult
from offloader.doctor.finding import Finding, Verdict

_WORDS: Final = {
    Verdict.OK: "ok",
    Verdict.NOTE: "note",
    Verdict.WARNING: "WARNING",
    Verdict.FAILURE: "FAILURE",
    Verdict.SKIPPED: "skipped",
}
_COLOURS: Final = {
    Verdict.OK: "32",
    Verdict.NOTE: "36",
    Verdict.WARNING: "33",
    Verdict.FAILURE: "1;31",
    Verdict.SKIPPED: "2",
}
_WIDTH: Final = max(len(word) for word in _WORDS.values())
_INDENT: Final = " " * (2 + _WIDTH + 2)


def step_lines(step: StepResult, *, colour: bool) -> Iterator[str]:
    """Title, then each finding: what and value (of what was skipped: why); cause; one line per fix."""
    yield f"{step.title} ({step.name})"
    for finding in step.findings:
        yield from _finding_lines(finding, colour=colour)


def counted(examination: Examination) -> str:
    """`2 failures, 1 warning, 0 notes, 20 ok, 4 skipped`, the worst first."""
    names = {
        Verdict.FAILURE: ("failure", "failures"),
        Verdict.WARNING: ("warning", "warnings"),
        Verdict.NOTE: ("note", "notes"),
        Verdict.OK: ("ok", "ok"),
        Verdict.SKIPPED: ("skipped", "skipped"),
    }
    counts = {verdict: examination.count(verdict) for verdict in names}
    return ", ".join(f"{n} {names[verdict][n != 1]}" for verdict, n in counts.items())


def _finding_lines(finding: Finding, *, colour: bool) -> Iterator[str]:
    skipped = finding.verdict is Verdict.SKIPPED
    told = finding.cause if skipped else finding.value
    value = f": {_shown(told)}" if told else ""
    yield f"  {_word(finding.verdict, colour=colour)}  {_shown(finding.what)}{value}"
    if finding.cause and not skipped:
        label = "cause" if finding.verdict.badness else "why"
        yield f"{_INDENT}{label}: {_shown(finding.cause)}"
    for line in finding.fix:
        yield f"{_INDENT}fix:   {_shown(line)}"


def _word(verdict: Verdict, *, colour: bool) -> str:
    word = _WORDS[verdict].ljust(_WIDTH)
    return f"\x1b[{_COLOURS[verdict]}m{word}\x1b[0m" if colour else word


def _shown(text: str) -> str:
    """One line without control characters: texts come from servers and files, too."""
    return "".join(c if c.isprintable() else " " for c in text)
