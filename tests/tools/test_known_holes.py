"""What is made of pip-audit's report; whether it runs is seen in `make audit`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tools.known_holes import judge, main

SOUND = {"name": "a", "version": "1.0", "vulns": []}
HOLED = {
    "name": "b",
    "version": "2.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"], "aliases": [], "description": "…"}],
}
UNKNOWN = {"name": "c", "skip_reason": "not found: c (3.0)"}


def test_holes_are_told_with_the_release_that_mends_them_and_what_is_unknown_is_no_all_clear() -> (
    None
):
    holes, unknown = judge({"dependencies": [SOUND, HOLED, UNKNOWN]})
    assert holes == ["b 2.0: PYSEC-1, mended in 2.1"]
    assert unknown == {"c": "not found: c (3.0)"}


@pytest.mark.parametrize(
    ("packages", "required", "code", "said"),
    [
        ([SOUND], "", 0, ""),
        ([SOUND, HOLED], "", 1, "PYSEC-1"),
        ([SOUND, UNKNOWN], "", 0, "NOT RUN for 1 packages"),
        ([SOUND, UNKNOWN], "required", 1, "NOT RUN for 1 packages"),
        (None, "", 0, "NOT RUN"),
        (None, "required", 1, "NOT RUN"),
    ],
)
def test_the_exit_code_is_that_of_the_worst(
    packages: list[dict[str, object]] | None,
    required: str,
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program = tmp_path / "pip-audit"
    report = "" if packages is None else json.dumps({"dependencies": packages})
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{report}\nEND\n")
    program.chmod(0o755)
    monkeypatch.setenv("AUDIT", required)
    assert main(str(program), "locked.txt") == code
    assert said in capsys.readouterr().err
