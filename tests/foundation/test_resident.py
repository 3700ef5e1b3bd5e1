"""What only the start needed is given back, and nothing is lost by it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from foundation import resident

_MB = 1 << 20
_PROGRAM = """
import json, ssl, numpy, av
from foundation.process_stats import read_process_stats
from foundation.resident import give_back_unused

before = read_process_stats().rss_bytes
dropped = give_back_unused()
after = read_process_stats().rss_bytes
# Code, tables with relocations, and what was written since: all of it works on.
product = float((numpy.arange(12.0).reshape(3, 4) @ numpy.ones(4)).sum())
frame = av.VideoFrame(64, 64, "rgb24").reformat(format="yuv420p")
ssl.create_default_context()
print(json.dumps([before, dropped, after, product, frame.width]))
"""


def test_a_process_is_smaller_afterwards_and_works_on() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=25
    )
    before, dropped, after, product, width = json.loads(done.stdout)
    assert dropped > 10 * _MB
    assert after < before - 10 * _MB
    assert (product, width) == (66.0, 64)


def test_nothing_happens_where_the_system_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "_SMAPS", resident._SMAPS / "missing")
    assert resident.give_back_unused() == 0


@pytest.mark.parametrize(
    ("line", "droppable"),
    [
        ("7f00-7f10 r-xp 00000000 fe:00 24727    /usr/lib/libc.so.6", True),
        ("7f00-7f10 r--p 00000000 fe:00 24727    /a path/with blanks.so (deleted)", True),
        (f"7f00-7f10 r-xp 00000000 fe:00 24727    {os.path.realpath(sys.executable)}", True),
        ("7f00-7f10 r--p 00000000 fe:00 24727    /usr/share/fonts/some.ttf", False),
        ("7f00-7f10 rw-p 00000000 fe:00 24727    /usr/lib/libc.so.6", False),
        ("7f00-7f10 r--s 00000000 fe:00 24727    /usr/lib/libc.so.6", False),
        ("7f00-7f10 r--p 00000000 00:00 0        [vvar]", False),
        ("7f00-7f10 ---p 00000000 00:00 0", False),
    ],
)
def test_only_what_comes_back_from_its_file_as_it_was_is_dropped(
    line: str, droppable: bool
) -> None:
    span, _, rest = line.partition(" ")
    assert resident._mapping(span, rest).droppable is droppable
