"""Alerts fire when they should, say what to do, and ask for metrics that there are."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import offloader
from sfu.metrics import FAMILIES

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(ROOT.glob("helm/*/alerts.yaml"))
CASES = Path(__file__).with_name("alerts.yaml")

Program = Callable[[str], str]


def promtool(program: Program, *arguments: str) -> None:
    done = subprocess.run(
        [program("promtool"), *arguments], capture_output=True, text=True, timeout=25, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_rules(prometheus_program: Program) -> None:
    promtool(prometheus_program, "check", "rules", *map(str, FILES))


def test_the_sample_configuration_is_one_and_finds_the_rules(prometheus_program: Program) -> None:
    promtool(prometheus_program, "check", "config", str(ROOT / "deploy/monitoring/prometheus.yml"))


def test_every_alert_fires_when_it_should_and_not_before(
    prometheus_program: Program, alerts: list[Any], tmp_path: Path
) -> None:
    cases = yaml.safe_load(CASES.read_text())
    fire = {
        look["alertname"]
        for case in cases["tests"]
        for look in case["alert_rule_test"]
        if look["exp_alerts"]
    }
    quiet = {
        look["alertname"]
        for case in cases["tests"]
        for look in case["alert_rule_test"]
        if not look["exp_alerts"]
    }
    assert fire == quiet == {alert["alert"] for alert in alerts}
    cases["rule_files"] = [str(ROOT / name) for name in cases["rule_files"]]
    path = tmp_path / "cases.yaml"
    path.write_text(yaml.safe_dump(cases))
    promtool(prometheus_program, "test", "rules", str(path))


def test_every_alert_says_what_it_is_how_bad_and_where_its_runbook_is(alerts: list[Any]) -> None:
    page = (ROOT / "docs/monitoring.md").read_text()
    anchors = {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    }
    names = [alert["alert"] for alert in alerts]
    assert len(names) == len(set(names))
    for alert in alerts:
        assert alert["labels"]["severity"] in ("critical", "warning"), alert["alert"]
        notes = alert["annotations"]
        assert notes.keys() == {"summary", "description", "runbook_url"}, alert["alert"]
        assert all(notes.values()), alert["alert"]
        file, _, anchor = notes["runbook_url"].partition("#")
        assert file == "docs/monitoring.md"
        assert anchor == alert["alert"].lower()
        assert anchor in anchors, f"docs/monitoring.md has no heading {alert['alert']}"


def test_every_selector_can_be_narrowed_to_a_release(alerts: list[Any]) -> None:
    """The charts put a release's labels in the place of `job!=""`."""
    for alert in alerts:
        selected = re.findall(r"\b(?:calls_offloader|rtcd)_\w+(\{job!=\"\")?", alert["expr"])
        assert selected, alert["alert"]
        assert all(selected), f"{alert['alert']}: {alert['expr']}"


def known_metrics() -> set[str]:
    """Names of ours, counters with their ending."""
    code = "".join(path.read_text() for path in Path(offloader.__path__[0]).glob("*metrics.py"))
    ours = set(re.findall(r'"(calls_offloader_\w+)"', code))
    known = {*ours, *FAMILIES}
    known |= {f"{name}{end}" for name in known for end in ("_total", "_count", "_sum", "_bucket")}
    own = ("cpu_seconds_total", "resident_memory_bytes", "open_fds", "max_fds")
    return known | {f"{of}_process_{name}" for of in ("calls_offloader", "rtcd") for name in own}


def test_alerts_ask_for_metrics_that_there_are(alerts: list[Any]) -> None:
    for alert in alerts:
        names = set(re.findall(r"\b(?:calls_offloader|rtcd)_\w+", alert["expr"]))
        assert names <= known_metrics(), alert["alert"]


def test_panels_ask_for_metrics_that_there_are(queries: list[Any]) -> None:
    for query in queries:
        assert query.metrics, query.where
        assert query.metrics <= known_metrics(), query.where


def test_figures_that_are_asked_for_are_figures_of_jobs(
    alerts: list[Any], queries: list[Any]
) -> None:
    jobs = "\n".join(path.read_text() for path in ROOT.glob("jobs/**/*.py"))
    for expr in [alert["expr"] for alert in alerts] + [query.expr for query in queries]:
        for names in re.findall(r'figure(?:=|=~|!~)"([^"]+)"', expr):
            for name in _alternatives(names):
                assert re.search(rf'"{name}"|\b{name}=', jobs), f"{name} in {expr}"


def _alternatives(pattern: str) -> set[str]:
    """`a_(b|c)_d|e` as names."""
    group = re.search(r"\(([^)]*)\)", pattern)
    if group is None:
        return set(pattern.split("|"))
    before, after = pattern[: group.start()], pattern[group.end() :]
    return {
        name for choice in group[1].split("|") for name in _alternatives(f"{before}{choice}{after}")
    }


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a", {"a"}),
        ("a_(b|c)_d|e", {"a_b_d", "a_c_d", "e"}),
        ("(a|b)(c|d)", {"ac", "ad", "bc", "bd"}),
    ],
)
def test_patterns_are_taken_apart(pattern: str, names: set[str]) -> None:
    assert _alternatives(pattern) == names
