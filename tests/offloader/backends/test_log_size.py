"""The log's cap holds however the output is cut into pieces."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest

from offloader.backends.process_files import read_log
from offloader.backends.shim.capped_log import CappedLog

CAP = 64 * 1024
LINES = b"".join(b"%d\n" % number for number in range(1, 100_001)) + b"last\n"


@pytest.mark.parametrize("seed", range(20))
def test_start_and_end_are_kept_in_whole_lines_within_the_cap(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sizes, log, at = random.Random(seed), CappedLog(CAP), 0
    while at < len(LINES):
        size = sizes.choice([4096, 65536, sizes.randint(1, 65536)])
        log.write(LINES[at : at + size])
        at += size
    log.close()
    text = b"".join(read_log(tmp_path, tail_bytes=None)).decode()
    assert len(text) <= CAP + 200
    assert text.startswith("1\n2\n3\n")
    assert text.endswith("\n100000\nlast\n")
    numbers = [int(line) for line in text.splitlines() if line.isdigit()]
    assert sum(later - earlier != 1 for earlier, later in pairwise(numbers)) == 1


def test_output_without_line_ends_is_capped_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    log = CappedLog(CAP)
    for _ in range(100):
        log.write(b"x" * 10_000)
    log.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= CAP + 3 * 2 * 65536


def test_a_log_that_is_continued_stays_below_its_size_and_loses_nothing(tmp_path) -> None:
    lines = [b"%06d\n" % number for number in range(2000)]
    capped = CappedLog(64 * 1024, str(tmp_path))
    capped.write(b"".join(lines[:1000]))
    capped.close()
    again = CappedLog(64 * 1024, str(tmp_path), continued_at=0)
    again.write(b"".join(lines[1000:]))
    again.close()
    assert b"".join(read_log(tmp_path, tail_bytes=None)) == b"".join(lines)
