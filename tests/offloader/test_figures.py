from __future__ import annotations

import json

import pytest

from offloader.figures import joined_after_s, newest_figures


def line(**members: object) -> bytes:
    return json.dumps(members).encode() + b"\n"


def test_the_newest_whole_metrics_line_counts() -> None:
    log = (
        line(event="metrics", cpu_s=1.0)
        + line(event="metrics", cpu_s=2, rss_bytes=3)
        + line(event="progress", done=1)
        + b'{"event":"metrics","cpu_s":9'
    )
    assert newest_figures(log) == {"cpu_s": 2.0, "rss_bytes": 3.0}


def test_only_plain_numbers_under_plain_names_count() -> None:
    log = line(event="metrics", time="x", ok=True, good=1, **{"Bad Name": 2, "nested": {"a": 1}})
    assert newest_figures(log + b'{"event":"other","text":"metrics"}\n') == {"good": 1.0}
    assert newest_figures(b'{"event":"metrics","a":NaN,"b":1e999,"c":4}\n') == {"c": 4.0}


def test_a_job_cannot_report_without_bounds() -> None:
    figures = newest_figures(line(event="metrics", **{f"f{n}": n for n in range(1000)}))
    assert figures is not None
    assert len(figures) == 64


@pytest.mark.parametrize("log", [b"", b"\xff\xfe metrics", b'"metrics"\n', b'["metrics"]\n'])
def test_a_log_without_metrics_has_none(log: bytes) -> None:
    assert newest_figures(log) is None


def test_the_start_line_tells_how_long_it_took_to_join() -> None:
    log = line(event="started", joined_after_s=7.25) + line(event="metrics", cpu_s=1)
    assert joined_after_s(log) == 7.25
    assert joined_after_s(line(event="started", joined_after_s=3)) == 3.0


@pytest.mark.parametrize(
    "log",
    [
        b"",
        line(event="started"),
        line(event="metrics", text="started", joined_after_s=1),
        *(line(event="started", joined_after_s=wrong) for wrong in (-1, True, "1", None, 10**400)),
        b'{"event":"started","joined_after_s":NaN}\n',
        b'{"event":"started","joined_after_s":1',
    ],
)
def test_whoever_does_not_say_it_has_not_joined_yet(log: bytes) -> None:
    assert joined_after_s(log) is None
