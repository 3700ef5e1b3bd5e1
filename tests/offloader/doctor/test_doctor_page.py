"""docs/doctor.md names every finding that the local steps can make, with its verdict, and nothing else."""

from __future__ import annotations

import re

from tools.doctor_verdicts import ROOT, verdicts

CODE = re.compile(
    r"`((?:benchmark|broker|certificate|clock|config|cpu|disk|docker|kubernetes|limits|media|models|"
    r"settings|step|store|workers)_[a-z0-9_]+)`"
)


def test_the_page_names_every_finding_and_no_other() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
    made = {code for (code, _), file in verdicts().items() if not file.startswith("network/")}
    assert set(CODE.findall(page)) == made
