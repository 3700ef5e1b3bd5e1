"""docs/doctor-verdicts.md has every verdict of the doctor, each with a test that there is and that says it.

That a test finds what the page says is looked at when it runs (conftest.py).
"""

from __future__ import annotations

import re

from tools.doctor_verdicts import DOUBLE, HOST, KNOWN, PAGE, PEER, REAL, REASONS, ROOT, page, told
from tools.doctor_verdicts import verdicts as of_the_source


def test_the_page_has_every_verdict_of_the_source_and_no_other() -> None:
    assert set(told(PAGE.read_text(encoding="utf-8"))) == set(of_the_source())


def test_the_page_is_as_it_is_written() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(told(text), of_the_source()) == text


def test_each_named_test_is_there() -> None:
    rows = told(PAGE.read_text(encoding="utf-8")).values()
    named = {tuple(row.test.partition("[")[0].split("::")) for row in rows}
    gone = [
        (file, name)
        for file, name in sorted(named)
        if not re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text("utf-8"), re.MULTILINE)
    ]
    assert gone == []


def test_what_is_seen_otherwise_than_by_a_step_is_named_there() -> None:
    for seen in KNOWN:
        assert seen.code in (ROOT / seen.test.partition("::")[0]).read_text(encoding="utf-8")


def test_only_a_double_needs_a_reason_and_each_has_one() -> None:
    rows = told(PAGE.read_text(encoding="utf-8")).values()
    assert {row.level for row in rows} == {REAL, PEER, HOST, DOUBLE}
    assert {row.code for row in rows if row.level == DOUBLE} <= set(REASONS)
    assert set(REASONS) <= {row.code for row in rows if row.level in (DOUBLE, HOST)}
