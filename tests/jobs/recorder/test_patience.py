"""Who has nothing to do although it was asked hangs; who only gets no processor does not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from jobs.recorder.decoding.patience import Impatient, Patience

LOOK_NS = 50_000_000
PID = 4242


@pytest.fixture
def stat(tmp_path: Path) -> Path:
    return tmp_path / "stat"


@pytest.fixture
def patience(stat: Path) -> Patience:
    patience = Patience(PID, 3.0)
    patience._stat = stat
    return patience


def line(state: str, cpu_ticks: int) -> str:
    """Of proc(5), with a name that is made to be misread."""
    return f"{PID} (a) S 1 (b)) {state} 1 2 3 4 5 6 7 8 9 10 {cpu_ticks} 0 0 0 20 0 1 0"


def waited_s(patience: Patience, stat: Path, *looks: str, most: int = 100) -> tuple[float, str]:
    """Until patience is over, and why; the looks that are given by turns, each of a twentieth of a second."""
    for number in range(most):
        stat.write_text(looks[number % len(looks)])
        try:
            patience.look(LOOK_NS)
        except Impatient as reason:
            return (number + 1) * LOOK_NS / 1e9, str(reason)
    return most * LOOK_NS / 1e9, ""


@pytest.mark.parametrize("state", ["S", "T", "t"])
def test_asleep_or_stopped_for_a_third_of_a_second_is_a_hang(
    patience: Patience, stat: Path, state: str
) -> None:
    assert waited_s(patience, stat, line(state, 7)) == (0.35, "hung")


@pytest.mark.parametrize("state", ["R", "D"])
def test_without_a_processor_or_waiting_for_the_disk_it_has_three_seconds(
    patience: Patience, stat: Path, state: str
) -> None:
    assert waited_s(patience, stat, line(state, 7)) == (3.0, "no answer")


def test_who_gets_a_processor_now_and_then_does_not_hang(patience: Patience, stat: Path) -> None:
    asleep = [line("S", 7)] * 5
    assert waited_s(patience, stat, *asleep, line("R", 7)) == (3.0, "no answer")


def test_who_computes_between_looks_does_not_hang(patience: Patience, stat: Path) -> None:
    asleep = [*[line("S", 7)] * 6, *[line("S", 8)] * 6]
    assert waited_s(patience, stat, *asleep) == (3.0, "no answer")


def test_a_host_that_stands_still_counts_as_one_look(patience: Patience, stat: Path) -> None:
    stat.write_text(line("S", 7))
    for _ in range(5):
        patience.look(60 * 1_000_000_000)
    assert waited_s(patience, stat, line("S", 7)) == (0.1, "hung")


def test_who_is_starting_may_sleep_over_its_files(stat: Path) -> None:
    patience = Patience(PID, 10.0, starting=True)
    patience._stat = stat
    assert waited_s(patience, stat, line("S", 7), most=300) == (10.0, "no answer")


def test_without_proc_the_limit_holds_alone(patience: Patience, stat: Path) -> None:
    for _ in range(59):
        patience.look(LOOK_NS)
    with pytest.raises(Impatient, match="no answer"):
        patience.look(LOOK_NS)
    assert not stat.exists()


def test_the_systems_own_line_is_understood() -> None:
    patience = Patience(os.getpid(), 3.0)
    for _ in range(30):
        patience.look(LOOK_NS)  # we run
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitpid(child, os.WUNTRACED)
    try:
        stopped = Patience(child, 3.0)
        for _ in range(6):
            stopped.look(LOOK_NS)
        with pytest.raises(Impatient, match="hung"):
            stopped.look(LOOK_NS)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
