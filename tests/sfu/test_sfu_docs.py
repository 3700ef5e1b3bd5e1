"""docs/sfu.md says what is there: keys, metrics, profiles."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from sfu.metrics import FAMILIES
from sfu.setting_keys import KEYS, OWN

PAGE = (Path(__file__).parents[2] / "docs/sfu.md").read_text(encoding="utf-8")
OURS = list(FAMILIES)[list(FAMILIES).index("rtcd_ws_messages_total") + 1 :]


@pytest.mark.parametrize("name", KEYS)
def test_each_key_has_its_row_with_variable_default_and_meaning(name: str) -> None:
    key = KEYS[name]
    default = "cores × 100" if name == "rtc.udp_sockets_count" else f"`{json.dumps(key.default)}`"
    assert name != "rtc.udp_sockets_count" or key.default == (os.cpu_count() or 1) * 100
    own = " *(ours)*" if name in OWN else ""
    assert f"| `{name}`{own} | `{key.env}` | {default} | {key.help} |\n" in PAGE


def test_no_key_is_told_that_is_not_there() -> None:
    rows = re.findall(
        r"^\| `((?:api|rtc|store|logger|drain|flood|limits)\.[a-z0-9_.]+)`", PAGE, re.MULTILINE
    )
    assert sorted(rows) == sorted(KEYS)


@pytest.mark.parametrize("name", OURS)
def test_our_own_metrics_are_told_as_ours(name: str) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| ") and f"`{name}`" in line)
    assert f"| {', '.join(FAMILIES[name].labels)} |" in row


def test_each_test_that_the_security_page_names_for_the_sfu_is_there() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs/security.md").read_text(encoding="utf-8")
    section = page.partition("\n## SFU\n")[2].partition("\n## ")[0]
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", section)
    assert len(named) > 15
    for file, test in named:
        assert f"def {test}(" in (root / file).read_text(encoding="utf-8"), f"{file}::{test}"


def test_each_limit_and_each_key_of_the_monitors_is_named_on_the_security_page() -> None:
    page = (Path(__file__).parents[2] / "docs/security.md").read_text(encoding="utf-8")
    for name in KEYS:
        if name.startswith(("limits.", "api.monitor.")):
            assert f"`{name}`" in page
