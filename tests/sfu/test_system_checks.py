"""Limits of the machine that are too low are told with the command that mends them."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from sfu.system_checks import WANTED_BYTES, WANTED_FILES, allowed_files, shortages


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Soft and hard limit of open files, which the code may change."""
    limits = [WANTED_FILES, WANTED_FILES]

    def set_limits(_: int, values: tuple[int, int]) -> None:
        limits[:] = values

    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", set_limits)
    return limits


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """The kernel's files, all as they should be."""
    for name in ("rmem_max", "wmem_max", "optmem_max"):
        (tmp_path / name).write_text(f"{WANTED_BYTES}\n")
    return tmp_path


def test_a_machine_that_is_set_up_has_no_shortage(net: Path, limits: list[int]) -> None:
    assert shortages(net) == []


@pytest.mark.parametrize("name", ["rmem_max", "wmem_max", "optmem_max"])
def test_a_small_buffer_is_told_once_with_its_command(
    net: Path, limits: list[int], name: str
) -> None:
    (net / name).write_text("212992\n")
    (shortage,) = shortages(net)
    assert (shortage.name, shortage.found) == (f"net.core.{name}", 212992)
    assert shortage.command == f"sysctl -w net.core.{name}=16777216"


def test_what_cannot_be_read_is_not_told(tmp_path: Path, limits: list[int]) -> None:
    assert shortages(tmp_path / "nowhere") == []


def test_few_open_files_are_raised_to_the_hard_limit_without_a_word(
    net: Path, limits: list[int]
) -> None:
    limits[:] = [1024, 1_048_576]
    assert shortages(net) == []
    assert limits == [WANTED_FILES, 1_048_576]


def test_a_low_hard_limit_of_open_files_is_told(net: Path, limits: list[int]) -> None:
    limits[:] = [1024, 4096]
    (shortage,) = shortages(net)
    assert (shortage.name, shortage.found) == ("open files", 4096)
    assert "LimitNOFILE=65536" in shortage.command
    assert limits == [4096, 4096]


def test_no_limit_at_all_is_enough(limits: list[int]) -> None:
    limits[:] = [resource.RLIM_INFINITY, resource.RLIM_INFINITY]
    assert allowed_files() == WANTED_FILES
