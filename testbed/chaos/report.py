"""What a run has shown: JSON for machines, a table for docs/performance.md."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from testbed.analysis.captions import percentile
from testbed.chaos.run import Outcome
from testbed.chaos.schedule import STAGES
from testbed.chaos.victim import Story


def as_document(outcome: Outcome) -> dict[str, Any]:
    """Everything, with what is wrong first."""
    return {
        "complaints": outcome.complaints,
        "options": asdict(outcome.options),
        "duration_s": round(outcome.duration_s, 1),
        "kills": [_entry(story) for story in outcome.stories],
        "scenarios": {name: _entry(story) for name, story in outcome.scenarios.items()},
    }


def as_table(outcome: Outcome) -> str:
    """By stage, in Markdown."""
    lines = [
        "| Stage hit | SIGKILL | SIGTERM | published | missing at the end, median / worst | "
        "compared | lost |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        _row(stage, stories)
        for stage in STAGES[outcome.options.job]
        if (stories := [s for s in outcome.stories if s.hit == stage])
    ]
    late = [story for story in outcome.stories if not story.hit]
    if late:
        lines.append(_row("after its end", late))
    for name, story in outcome.scenarios.items():
        lines.append(_row(f"*{name}*", [story]))
    return "\n".join(lines)


def _row(name: str, stories: Sequence[Story]) -> str:
    kills = sum(s.wish is not None and s.wish.signal is signal.SIGKILL for s in stories)
    terms = sum(s.wish is not None and s.wish.signal is signal.SIGTERM for s in stories)
    losses = [s.figures["loss_s"] for s in stories if "loss_s" in s.figures]
    loss = f"{percentile(losses, 0.5):.2f} / {max(losses):.2f} s" if losses else "–"
    compared = sum(s.figures.get("marks", 0) + s.figures.get("words", 0) for s in stories)
    complaints = sum(bool(s.complaints) for s in stories)
    posts = sum(bool(s.posts) for s in stories)
    return (
        f"| {name} | {kills or ''} | {terms or ''} | {posts} of {len(stories)} | {loss} | "
        f"{compared:.0f} | {complaints} |"
    )


def _entry(story: Story) -> dict[str, Any]:
    wish = story.wish
    return {
        "job_id": story.job_id,
        "wanted": wish.stage if wish else None,
        "after_s": wish.after_s if wish else None,
        "signal": wish.signal.name if wish else None,
        "hit": story.hit,
        "exit_code": story.exit_code,
        "salvage_code": story.salvage_code,
        "salvage_s": round(story.salvage_s, 2),
        "posts": len(story.posts),
        "figures": story.figures,
        "complaints": story.complaints,
    }
