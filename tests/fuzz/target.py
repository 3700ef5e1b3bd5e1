"""What a fuzz target is, where its inputs lie, and what counts as a failure of one.

A target reads foreign bytes as the product does. It catches the exceptions that the parser documents, and no
other; everything else that goes wrong with an input is found by `judge`.
"""

from __future__ import annotations

import base64
import importlib
import logging
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

_HERE = Path(__file__).parent
_TARGETS = _HERE / "targets"
_CORPUS = _HERE / "corpus"
FOUND = "# found by guided runs"
"""Heads the part of a corpus that `tests.fuzz.keep` renews."""


@dataclass(frozen=True, slots=True)
class Target:
    """One group of parsers, fed by one function."""

    parses: str
    """For people."""
    run: Callable[[bytes], object]
    """Raises whatever is a failure."""
    seeds: Callable[[], Iterable[bytes]]
    """Valid inputs, made by the product's own writers: a fuzzer begins with them."""
    tokens: tuple[bytes, ...] = ()
    """Words of the format that chance would hardly write."""
    max_bytes: int = 2048
    ci_inputs: int = 2000
    """Mutated inputs of the short run."""
    max_s: float = 1.0
    """Of processor time for one input: more is a hang to whoever waits."""
    max_mib: float = 64.0
    """By which one input may raise the most memory that the process ever held."""


class Hang(Exception):
    """An input took longer than it may."""


class Growth(Exception):
    """Memory grew by more than an input can need."""


def names() -> list[str]:
    """Of all targets."""
    return sorted(path.stem for path in _TARGETS.glob("*.py"))


def load(name: str) -> Target:
    """Raises ModuleNotFoundError."""
    target: Target = importlib.import_module(f"tests.fuzz.targets.{name}").TARGET
    return target


def be_quiet() -> None:
    """What the product says of bad inputs is right, and would be millions of lines."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)


def judge(target: Target, data: bytes) -> None:
    """Run one input.

    Raises:
        Hang, Growth: see there.
        Exception: whatever the target does not expect.
    """
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began_s = time.process_time()
    target.run(data)
    took_s = time.process_time() - began_s
    if took_s > target.max_s:
        raise Hang(f"{took_s:.2f} s of processor time for {len(data)} bytes")
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak_kib) / 1024
    if grown_mib > target.max_mib:
        raise Growth(f"{grown_mib:.0f} MiB more for {len(data)} bytes")


def check_text(said: object, most: int) -> None:
    """Of an error, which goes into logs: it may quote a stranger, within bounds."""
    assert len(str(said)) <= most, f"a text of {len(str(said))} characters"


def corpus_file(name: str) -> Path:
    """Lines of base64; those that begin with # say what the following ones are about."""
    return _CORPUS / f"{name}.txt"


def corpus(name: str) -> list[bytes]:
    """The inputs that are kept: what led to failures, and what fuzzing found worth keeping."""
    path = corpus_file(name)
    lines = path.read_text("ascii").splitlines() if path.exists() else []
    return [base64.b64decode(line, validate=True) for line in lines if not line.startswith("#")]


def pieces(data: bytes, most: int = 64) -> Iterator[bytes]:
    """An input as several messages: each behind its length in two bytes, as in RFC 4571."""
    position = 0
    for _ in range(most):
        if position + 2 > len(data):
            return
        size = data[position] << 8 | data[position + 1]
        yield data[position + 2 : position + 2 + size]
        position += 2 + size


def joined(messages: Iterable[bytes]) -> bytes:
    """What `pieces` takes apart."""
    return b"".join(len(message).to_bytes(2, "big") + message for message in messages)
