"""Runs the steps one after the other, since some of them measure; nothing that a step does is the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from offloader.doctor.finding import Finding, Verdict, failure, skipped, worst
from offloader.doctor.step import Context, Step
from offloader.version import BUILD_VERSION

DOCUMENT_FORMAT: Final = 1
"""Raised when a reader of the JSON would have to change."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step has found."""

    name: str
    title: str
    findings: tuple[Finding, ...]
    took_s: float

    @property
    def verdict(self) -> Verdict:
        """The worst one; SKIPPED where nothing was looked at."""
        if all(finding.verdict is Verdict.SKIPPED for finding in self.findings):
            return Verdict.SKIPPED
        return worst(finding.verdict for finding in self.findings)

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "verdict": self.verdict.value,
            "took_s": round(self.took_s, 3),
            "findings": [finding.document() for finding in self.findings],
        }


@dataclass(frozen=True, slots=True)
class Examination:
    """All that was found."""

    at: datetime
    steps: tuple[StepResult, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(finding for step in self.steps for finding in step.findings)

    @property
    def verdict(self) -> Verdict:
        """OK, WARNING or FAILURE."""
        return worst(finding.verdict for finding in self.findings)

    def count(self, verdict: Verdict) -> int:
        """Of how many findings it is the verdict."""
        return sum(finding.verdict is verdict for finding in self.findings)

    def settings(self) -> dict[str, Any]:
        """What was measured for our configuration; what a later step says counts."""
        return {key: value for found in self.findings for key, value in found.settings.items()}

    def plugin(self) -> dict[str, Any]:
        """What the plugin should be set to; what a later step says counts."""
        return {key: value for found in self.findings for key, value in found.plugin.items()}

    def document(self) -> dict[str, Any]:
        """For JSON (docs/doctor.md describes it)."""
        return {
            "format": DOCUMENT_FORMAT,
            "version": BUILD_VERSION,
            "at": self.at.isoformat(timespec="seconds"),
            "verdict": self.verdict.value,
            "counts": {verdict.value: self.count(verdict) for verdict in Verdict},
            "steps": [step.document() for step in self.steps],
            "settings": self.settings(),
            "plugin": self.plugin(),
        }


async def examine(
    steps: Iterable[Step],
    context: Context,
    *,
    tell: Callable[[StepResult], None] = lambda _: None,
) -> Examination:
    """Run `steps` in order; `tell` hears of each as soon as it is over."""
    at = datetime.now(UTC)
    results = []
    for step in steps:
        result = await _run(step, context)
        tell(result)
        results.append(result)
    return Examination(at, tuple(results))


async def _run(step: Step, context: Context) -> StepResult:
    began_s = time.monotonic()
    if step.needs_settings and context.reading.problems:
        findings: Sequence[Finding] = [
            skipped(
                "settings_unusable", step.title, "the configuration cannot be used: see `config`"
            )
        ]
    else:
        findings = await _look(step, context)
    return StepResult(step.name, step.title, tuple(findings), time.monotonic() - began_s)


async def _look(step: Step, context: Context) -> Sequence[Finding]:
    limit = asyncio.timeout(step.timeout_s)
    try:
        async with limit:
            return await step.look(context)
    except TimeoutError as error:
        if not limit.expired():
            return [_broken(step, error)]
        return [
            failure(
                "step_hangs",
                step.title,
                f"no answer within {step.timeout_s:g} s",
                cause="what this step asks does not answer: a dead mount, a firewall that drops, a busy host",
                fix=(f"offloader doctor --only {step.name}",),
            )
        ]
    except Exception as error:  # noqa: BLE001 - whatever it is, the other steps have something to say
        return [_broken(step, error)]


def _broken(step: Step, error: Exception) -> Finding:
    return failure(
        "step_broken",
        step.title,
        f"{type(error).__name__}: {error}",
        cause="this step met something that it does not know: the other steps are not affected",
        fix=(f"offloader doctor --only {step.name} --json",),
    )
