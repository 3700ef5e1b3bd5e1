"""Candidates that name a host."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from rtc.net.host_names import HostNames


def _line(host: str, port: int = 8443) -> str:
    return f"candidate:1 1 udp 2130706431 {host} {port} typ host"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that were looked up; each has two addresses."""
    names: list[str] = []

    async def getaddrinfo(self: Any, host: str, port: Any, **options: Any) -> list[Any]:
        names.append(host)
        if host == "missing.example.org":
            raise socket.gaierror
        return [
            (socket.AF_INET, 2, 17, "", ("192.0.2.1", 0)),
            (socket.AF_INET6, 2, 17, "", ("2001:db8::1", 0, 0, 0)),
            (socket.AF_INET, 2, 17, "", ("192.0.2.1", 0)),
        ]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return names


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
async def test_addresses_are_none_of_its_business(host: str, asked: list[str]) -> None:
    assert not HostNames(lambda line: None).take(_line(host))
    assert asked == []


async def test_a_name_becomes_a_candidate_for_each_of_its_addresses(asked: list[str]) -> None:
    lines: list[str] = []
    names = HostNames(lines.append)
    assert names.take(_line("sfu.example.org"))
    await _settle()
    assert lines == [_line("192.0.2.1"), _line("2001:db8::1")]
    names.close()


async def test_names_of_mdns_and_nonsense_are_not_looked_up(asked: list[str]) -> None:
    names = HostNames(lambda line: None)
    for host in ("8f3c.local", "8F3C.LOCAL.", "a..b", "a/b", "-" * 64):
        assert names.take(_line(host))
    await _settle()
    assert asked == []
    assert names.ignored == 5


async def test_lookups_are_limited_and_repetitions_cost_none(asked: list[str]) -> None:
    names = HostNames(lambda line: None)
    for number in range(20):
        names.take(_line(f"host{number}.example.org"))
        names.take(_line(f"host{number}.example.org"))
    await _settle()
    assert len(asked) == 8
    assert names.ignored == 24


async def test_a_name_without_address_is_left_out(asked: list[str]) -> None:
    lines: list[str] = []
    names = HostNames(lines.append)
    names.take(_line("missing.example.org"))
    await _settle()
    assert (lines, names.ignored) == ([], 1)


async def test_after_close_nothing_comes(asked: list[str]) -> None:
    lines: list[str] = []
    names = HostNames(lines.append)
    names.take(_line("sfu.example.org"))
    names.close()
    await _settle()
    assert lines == []
