"""`cpu_load` by rtcd's formula, on a written /proc/stat and a clock moved by hand (rtcd.md 1.4, trap 14)."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from sfu.system_load import SystemLoad

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass
class Host:
    """A host whose idle time and clock a test moves."""

    stat: Path
    idle_ticks: int = 1000
    now_s: float = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def passes(self, *, seconds: float, idle_cores: float) -> None:
        self.now_s += seconds
        self.idle_ticks += round(idle_cores * seconds * TICKS_PER_S)
        self.write()

    def write(self) -> None:
        # user nice system idle iowait irq softirq steal guest guest_nice
        self.stat.write_text(
            f"cpu  111 22 333 {self.idle_ticks} 5555 6 77 8 0 0\n"
            "cpu0 1 2 3 999999 5 6 7 8 0 0\n"
            "intr 1 2 3\n"
        )


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(tmp_path / "stat")
    host.write()
    monkeypatch.setattr("sfu.system_load.time", host)
    return host


def test_nothing_is_known_before_the_second_sample(host: Host) -> None:
    load = SystemLoad(host.stat)
    assert load.sample() == 0
    host.passes(seconds=1, idle_cores=4)
    assert load.sample() > 0


@pytest.mark.parametrize(
    ("idle_cores", "expected"), [(8, 0.125), (2, 0.5), (1, 1.0), (0.5, 2.0), (0.25, 4.0)]
)
def test_the_load_is_one_over_the_number_of_idle_cores(
    host: Host, idle_cores: float, expected: float
) -> None:
    load = SystemLoad(host.stat)
    load.sample()
    host.passes(seconds=1, idle_cores=idle_cores)
    assert load.sample() == pytest.approx(expected)


def test_a_late_sample_counts_the_seconds_that_passed(host: Host) -> None:
    load = SystemLoad(host.stat)
    load.sample()
    host.passes(seconds=2.5, idle_cores=4)
    assert load.sample() == pytest.approx(0.25)


def test_each_sample_looks_only_at_the_time_since_the_one_before(host: Host) -> None:
    load = SystemLoad(host.stat)
    load.sample()
    host.passes(seconds=1, idle_cores=8)
    load.sample()
    host.passes(seconds=1, idle_cores=2)
    assert load.sample() == pytest.approx(0.5)


@pytest.mark.parametrize("idle_cores", [0, -1])
def test_a_fully_busy_host_has_a_high_load_that_json_can_write(
    host: Host, idle_cores: float
) -> None:
    # Idle time of a virtual machine can even run backwards.
    load = SystemLoad(host.stat)
    load.sample()
    host.passes(seconds=1, idle_cores=idle_cores)
    busy = load.sample()
    assert busy > 1000
    assert json.loads(json.dumps(busy, allow_nan=False)) == busy


def test_this_hosts_own_file_can_be_read() -> None:
    assert SystemLoad().sample() == 0
