"""No finding without its entry in docs/doctor-network.md (which test sees it: docs/doctor-verdicts.md)."""

from __future__ import annotations

from tools.doctor_verdicts import ROOT, verdicts


def test_each_code_is_documented() -> None:
    page = (ROOT / "docs" / "doctor-network.md").read_text(encoding="utf-8")
    codes = {code for (code, _), file in verdicts().items() if file.startswith("network/")}
    assert len(codes) > 100
    assert {code for code in codes if f"`{code}`" not in page} == set()
