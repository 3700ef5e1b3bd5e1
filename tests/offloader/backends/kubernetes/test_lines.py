"""Logs: the times that the API puts before the lines, and going on where a connection broke."""

from __future__ import annotations

import asyncio
import io
import threading
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offloader.backends.kubernetes.log_keeper import _finished
from offloader.backends.kubernetes.log_lines import Lines, Position
from offloader.errors import BackendError

TIMES = ["00:00", "00:00.1", "00:00.100000001", "00:00.2", "00:01.000000001"]
"""Minutes, seconds."""
ZONES = {"Z": "2026-11-21T12", "+08:00": "2026-11-21T20", "-13:00": "2026-11-20T23"}
"""As nodes write noon in UTC."""
LOGS = st.lists(
    st.tuples(st.integers(0, len(TIMES) - 1), st.binary(max_size=6)), min_size=1, max_size=12
)


def written(lines: list[tuple[int, bytes]], zone: str) -> tuple[bytes, bytes]:
    """As the API sends it, and as the job wrote it; the last line has no end."""
    texts = [text.replace(b"\n", b" ") for _, text in sorted(lines, key=lambda line: line[0])]
    indexes = [index for index, _ in sorted(lines, key=lambda line: line[0])]
    times = [f"{ZONES[zone]}:{TIMES[index]}{zone}" for index in indexes]
    sent = b"\n".join(time.encode() + b" " + text for time, text in zip(times, texts, strict=True))
    return sent, b"\n".join(texts)


@settings(deadline=None)
@given(LOGS, st.sampled_from(sorted(ZONES)), st.data())
def test_a_log_cut_anywhere_and_read_again_is_whole_once_whatever_the_nodes_zone(
    lines, zone, data
) -> None:
    sent, expected = written(lines, zone)
    position, got = Position(), b""
    for attempt in range(4):
        begins = first_byte_of(position.since, sent, zone)
        ends = data.draw(st.integers(begins, len(sent))) if attempt < 3 else len(sent)
        got += fed(position, sent[begins:ends], data)
    assert got == expected


def first_byte_of(since: str, sent: bytes, zone: str) -> int:
    """Where the API begins: with the first line of that second."""
    if not since:
        return 0
    begin = datetime.fromisoformat(since)
    own = [line[:19].decode() + zone for line in io.BytesIO(sent)]
    early = sum(datetime.fromisoformat(text) < begin for text in own)
    return sum(len(line) for line in list(io.BytesIO(sent))[:early])


def fed(position: Position, content: bytes, data) -> bytes:
    reader, got = Lines(position), b""
    middle = data.draw(st.integers(0, len(content)))
    for chunk in (content[:middle], content[middle:]):
        got += reader.feed(chunk)
    return got


@pytest.mark.documents("something-else-answers-as-the-kubernetes-api/3")
@pytest.mark.parametrize("time", ["", "noon", "2026-13-21T12:00:00Z", "2026-11-21T12:00:00"])
def test_a_line_without_a_time_is_an_error_and_nothing_is_guessed(time, documented) -> None:
    with pytest.raises(BackendError) as strange:
        Lines(Position()).feed(f"{time} text\n".encode())
    documented("something-else-answers-as-the-kubernetes-api/3", str(strange.value))


async def test_a_log_file_is_closed_only_after_the_last_write_to_it_has_ended() -> None:
    order, writing, go = [], threading.Event(), threading.Event()

    def write() -> None:
        writing.set()
        go.wait(10)
        order.append("written")

    async def keep() -> None:
        try:
            await _finished(asyncio.to_thread(write))
        finally:
            order.append("closed")

    task = asyncio.create_task(keep())
    await asyncio.to_thread(writing.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert order == ["written", "closed"]
