"""What becomes of a shim's report: the sentence for the admin names the cause, the nearest one first."""

from __future__ import annotations

from typing import Any

import pytest

from offloader.backends.base import Phase
from offloader.backends.process_observation import exited

REPORT = {"exit_code": None, "signal": 9, "stopped_at_s": 1.0, "killed_after_grace": False}


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        pytest.param(
            {"killed_at_rss_bytes": 100 << 20},
            "killed at 100 MiB: jobs.process.memory_max",
            marks=pytest.mark.documents("a-process-above-its-memory"),
        ),
        pytest.param(
            {"killed_for_memory": "limit"},
            "needed more than jobs.process.memory_max",
            marks=pytest.mark.documents("a-process-killed-at-its-limit"),
        ),
        pytest.param(
            {"killed_for_memory": "host"},
            "the host, or what the service may use",
            marks=pytest.mark.documents("a-process-killed-for-the-hosts-memory"),
        ),
        ({"killed_for_memory": "host", "killed_after_grace": True}, "killed for memory"),
        ({"killed_after_grace": True}, "did not end within the grace"),
        ({"killed_for_memory": None}, "ended by signal 9"),
        ({"signal": 14}, "ended by its own timer"),
        ({"signal": 15, "killed_for_memory": "limit"}, "ended by signal 15"),
        ({"signal": None, "error": "cannot start x: no"}, "cannot start x: no"),
        ({"signal": None, "exit_code": 0, "killed_for_memory": "limit"}, ""),
    ],
)
def test_the_cause_of_an_end_is_named(facts: dict[str, object], text: str, documented: Any) -> None:
    observation = exited(REPORT | facts)
    assert observation.phase is Phase.EXITED
    assert observation.detail == text or (text and text in observation.detail)
    documented.marked(observation.detail)


def test_a_signal_is_an_exit_code_of_128_and_more_and_usage_is_kept() -> None:
    observation = exited(REPORT | {"total_cpu_s": 1, "max_rss_bytes": 2048})
    assert (observation.exit_code, observation.stopped_at.timestamp()) == (137, 1.0)
    assert observation.usage == {"total_cpu_s": 1.0, "max_rss_bytes": 2048.0}
