"""Every parser of foreign bytes takes whatever comes: it answers or refuses, in time, and keeps nothing.

Long runs, guided by coverage: `make fuzz TARGET=… MINUTES=…` (docs/testing.md). Here what they left is run
again, and in tier ci a few seconds of inputs that were made of it, the same ones each time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import structlog

from tests.fuzz import target as targets
from tests.fuzz.mutation import mutations
from tests.fuzz.target import Growth, Hang, Target, joined, judge, pieces

_NAMES = targets.names()
_CORPUS_BYTES = 300 * 1024


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = structlog.get_config()
    targets.be_quiet()
    yield
    logging.disable(logging.NOTSET)
    structlog.configure(**before)


def _inputs(name: str, target: Target) -> list[bytes]:
    return [*target.seeds(), *targets.corpus(name)]


@pytest.mark.parametrize("name", _NAMES)
def test_what_fuzzing_found_is_taken_still(name: str) -> None:
    target = targets.load(name)
    for data in _inputs(name, target):
        judge(target, data)


@pytest.mark.slow
@pytest.mark.parametrize("name", _NAMES)
def test_inputs_made_of_known_ones_are_taken(name: str) -> None:
    target = targets.load(name)
    made = mutations(
        _inputs(name, target),
        target.tokens,
        seed=name,
        count=target.ci_inputs,
        max_bytes=target.max_bytes,
    )
    for data in made:
        try:
            judge(target, data)
        except Exception as error:
            error.add_note(f"input of {name}: {data!r}")
            raise


def test_the_kept_inputs_are_few() -> None:
    sizes = {name: targets.corpus_file(name).stat().st_size for name in _NAMES}
    assert sum(sizes.values()) <= _CORPUS_BYTES, sizes


def test_an_input_that_takes_too_long_is_a_failure() -> None:
    def spin(data: bytes) -> None:
        until_s = time.process_time() + 0.05
        while time.process_time() < until_s:
            pass

    slow = Target(parses="", run=spin, seeds=list, max_s=0.01)
    with pytest.raises(Hang):
        judge(slow, b"x")


@pytest.mark.parametrize(("grown_mib", "fails"), [(63, False), (65, True)])
def test_an_input_that_takes_much_memory_is_a_failure(
    grown_mib: int, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks_kib = iter((1000, 1000 + grown_mib * 1024))
    usage = SimpleNamespace(getrusage=lambda who: SimpleNamespace(ru_maxrss=next(peaks_kib)))
    monkeypatch.setattr(targets, "resource", SimpleNamespace(RUSAGE_SELF=0, **vars(usage)))
    target = Target(parses="", run=len, seeds=list)
    with pytest.raises(Growth) if fails else nullcontext():
        judge(target, b"x")


def test_whatever_a_parser_does_not_document_is_a_failure() -> None:
    wrong = Target(parses="", run=lambda data: data[1], seeds=list)
    with pytest.raises(IndexError):
        judge(wrong, b"x")


def test_mutations_are_the_same_each_time_and_differ_from_their_inputs() -> None:
    inputs = [b"one input", b"and another"]
    first, again = (
        list(mutations(inputs, [b"token"], seed="s", count=200, max_bytes=30)) for _ in range(2)
    )
    assert first == again
    assert len(set(first) - set(inputs)) > 150
    assert max(map(len, first)) <= 30


def test_an_input_is_taken_apart_into_messages() -> None:
    messages = [b"one", b"", b"three" * 100]
    assert list(pieces(joined(messages))) == messages
    assert list(pieces(joined(messages) + b"\xff\xffrest")) == [*messages, b"rest"]
