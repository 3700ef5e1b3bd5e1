"""How commands write times."""

from __future__ import annotations

import time

import pytest

from offloader.cli import output


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("UTC", "2026-01-31 10:00:00 +00:00"),
        ("CET-1CEST,M3.5.0,M10.5.0/3", "2026-01-31 11:00:00 +01:00"),
        ("NST3:30", "2026-01-31 06:30:00 -03:30"),
    ],
)
def test_tables_show_local_time_with_its_offset(
    monkeypatch: pytest.MonkeyPatch, zone: str, shown: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        assert output.moment(1769853600000) == shown
    time.tzset()
    assert output.moment(None) is None
