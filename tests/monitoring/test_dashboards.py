"""Dashboards are what Grafana takes, on any data source, with units and words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = sorted(ROOT.glob("helm/*/dashboards/*.json"))
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
UNITS = {"none", "s", "bytes", "Bps", "pps", "reqps", "percentunit"}
WIDTH = 24


def shown(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def test_there_are_three_and_no_two_share_an_id(boards: dict[str, Any]) -> None:
    assert boards.keys() == {"offloader", "jobs", "sfu"}
    assert len({board["uid"] for board in boards.values()}) == 3
    assert len({board["title"] for board in boards.values()}) == 3


@pytest.mark.parametrize("name", [path.stem for path in DASHBOARDS])
def test_data_source_and_job_are_chosen_by_variables(name: str, boards: dict[str, Any]) -> None:
    source, job = boards[name]["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    assert (job["name"], job["type"], job["datasource"]) == ("job", "query", SOURCE)
    assert (job["includeAll"], job["allValue"]) == (True, ".+")
    for panel in shown(boards[name]):
        assert panel["datasource"] == SOURCE, panel["title"]
        for target in panel["targets"]:
            assert target["datasource"] == SOURCE, panel["title"]
            metrics = re.findall(r"\b(?:calls_offloader|rtcd)_\w+(\{[^}]*\})?", target["expr"])
            assert metrics
            assert all('job=~"$job"' in selector for selector in metrics), target["expr"]


@pytest.mark.parametrize("name", [path.stem for path in DASHBOARDS])
def test_every_panel_has_a_unit_words_and_a_legend(name: str, boards: dict[str, Any]) -> None:
    rows = [panel for panel in boards[name]["panels"] if panel["type"] == "row"]
    assert not any(row.get("panels") for row in rows), "folded panels, which nobody asks for data"
    titles = [panel["title"] for panel in shown(boards[name])]
    assert len(titles) == len(set(titles)), "two panels of one name"
    for panel in shown(boards[name]):
        assert panel["type"] in ("timeseries", "stat"), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert references, panel["title"]
        assert len(references) == len(set(references))
        legends = [target["legendFormat"] for target in panel["targets"]]
        if panel["type"] == "timeseries":
            assert all(legends), panel["title"]
            assert len(legends) == len(set(legends)), panel["title"]
        else:
            assert len(legends) == 1, panel["title"]


@pytest.mark.parametrize("name", [path.stem for path in DASHBOARDS])
def test_panels_neither_overlap_nor_leave_the_board(name: str, boards: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in boards[name]["panels"]]
    assert len(ids) == len(set(ids))
    for panel in boards[name]["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= WIDTH, panel["title"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
