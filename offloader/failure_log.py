"""Why a job ended as it did, in its own words: the newest error in the tail of its log.

The lines: docs/job-contract.md 5. Jobs log reasons with addresses and codes and never names or speech.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from offloader.backends.base import Observation, Phase
from offloader.figures import documents

_LONGEST: Final = 1000
_FIELDS: Final = ("reason", "error")


def newest_error(log_tail: bytes) -> str:
    """The reason in the newest whole line of level `error`, on one line; empty when there is none."""
    for document in documents(log_tail, b'"error"'):
        if document.get("level") == "error":
            return _reason(document)[:_LONGEST]
    return ""


def in_its_own_words(
    end: Observation, *, figures: Mapping[str, float], log_tail: bytes
) -> Observation:
    """The end of a job, with what its log says where the backend has nothing to say about a bad end.

    Of a lost one the log's last error may be one that it got over.
    """
    clean = end.exit_code == 0 and not figures.get("start_failed")
    if end.detail or clean or end.phase is Phase.LOST:
        return end
    return replace(end, detail=newest_error(log_tail))


def _reason(document: dict[str, object]) -> str:
    trace = document.get("exception")
    if isinstance(trace, str) and trace.strip():
        return _of_trace(trace)
    said = next((str(document[name]) for name in _FIELDS if document.get(name)), "")
    return " ".join(said.split()) or str(document.get("event") or "")


def _of_trace(trace: str) -> str:
    """The error of a Python traceback, which is its last line, without its module's name."""
    last = trace.strip().splitlines()[-1].strip(" |")
    kind, colon, text = last.partition(": ")
    if not colon:
        return kind.rpartition(".")[2]
    return text if " " not in kind else last
