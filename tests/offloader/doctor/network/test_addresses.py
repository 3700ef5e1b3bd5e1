"""Verdicts of the steps `dns` and `tcp`, each provoked."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from asyncio import DatagramProtocol, DatagramTransport
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from offloader.doctor.finding import Finding
from offloader.doctor.network import addresses
from offloader.doctor.network.addresses import DNS, TCP
from offloader.doctor.step import aside

Look = Callable[..., Awaitable[Any]]


async def test_without_a_site_nothing_is_looked_at(look: Look) -> None:
    for step in (DNS, TCP):
        assert (await look(step)).verdicts == {"no_site_url": "skipped"}


async def test_a_name_that_nobody_knows_is_a_failure(look: Look) -> None:
    found = (await look(DNS, site_url="https://chat.invalid"))["dns_no_address"]
    assert found.verdict == "failure"
    assert "getent ahosts chat.invalid" in found.fix
    assert (await look(TCP, site_url="https://chat.invalid")).verdicts == {
        "tcp_no_address": "skipped"
    }


async def test_a_name_is_told_with_its_addresses_and_how_long_it_took(look: Look) -> None:
    found = (await look(DNS, site_url="http://localhost:1"))["dns_resolves"]
    assert "127.0.0.1" in found.value
    assert found.data["took_ms"] >= 0
    assert (await look(DNS, site_url="http://127.0.0.1:1")).verdicts == {"dns_address": "ok"}


async def test_a_site_below_a_path_is_a_failure(look: Look) -> None:
    found = await look(DNS, site_url="https://127.0.0.1/chat")
    assert found.verdicts["site_url_has_path"] == "failure"


async def test_an_override_is_told_and_followed(look: Look, closed_port: int) -> None:
    override = f'{{"https://chat.example.com": "http://127.0.0.1:{closed_port}"}}'
    options = {"site_url": "https://chat.example.com", "JOBS_SITEURLOVERRIDES": override}
    assert (await look(DNS, **options)).verdicts == {
        "site_url_overridden": "note",
        "dns_address": "ok",
    }
    assert (await look(TCP, **options))["tcp_refused"].what == f"127.0.0.1:{closed_port}"


async def test_a_port_that_nobody_has_is_a_failure(look: Look, closed_port: int) -> None:
    found = (await look(TCP, site_url=f"http://127.0.0.1:{closed_port}"))["tcp_refused"]
    assert found.verdict == "failure"
    assert f"nc -vz 127.0.0.1 {closed_port}" in found.fix


async def test_an_address_to_which_nothing_leads_is_a_failure(
    look: Look, hurry: Callable[..., None]
) -> None:
    hurry(addresses, CONNECT_S=0.3)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        for _ in range(
            4
        ):  # until its queue is full: the kernel drops what comes then, as a firewall does
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        found = await look(TCP, site_url=f"http://127.0.0.1:{port}")
    assert found.verdicts == {"tcp_blocked": "failure"}


async def test_a_connection_is_told_with_its_time(
    look: Look, listening: Callable[..., Awaitable[int]]
) -> None:
    port = await listening(_silent)
    found = (await look(TCP, site_url=f"http://127.0.0.1:{port}"))["tcp_connects"]
    assert list(found.data["connected_ms"]) == ["127.0.0.1"]


async def test_a_host_without_ipv6_blames_no_address_of_the_site(
    look: Look, listening: Callable[..., Awaitable[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = await listening(_silent)
    both = {2: ["127.0.0.1"], 10: ["2001:db8::1"]}
    monkeypatch.setattr(addresses, "_addresses", lambda host, family: both[family])
    connect = asyncio.open_connection

    async def without_ipv6(host: str, port: int) -> Any:
        if ":" in host:
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        return await connect(host, port)

    monkeypatch.setattr(asyncio, "open_connection", without_ipv6)
    found = (await look(TCP, site_url=f"http://localhost:{port}"))["tcp_connects"]
    assert found.data["failed"] == {"2001:db8::1": "no IPv6 on this host"}


async def test_a_proxy_that_lets_nobody_through_is_a_failure(
    look: Look, listening: Callable[..., Awaitable[int]]
) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
        await writer.drain()

    proxy = f"http://user:hidden-password@127.0.0.1:{await listening(refuse)}"
    found = await look(TCP, site_url="https://chat.example.com", JOBS_HTTPSPROXY=proxy)
    assert "HTTP 407" in found["proxy_unusable"].value
    assert "hidden-password" not in str(found.all)
    dns = await look(DNS, site_url="https://chat.example.com", JOBS_HTTPSPROXY=proxy)
    assert dns.verdicts == {"dns_by_proxy": "skipped"}


async def test_a_proxy_is_named_and_used(
    look: Look, listening: Callable[..., Awaitable[int]]
) -> None:
    asked = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await writer.drain()

    proxy = f"http://user:hidden-password@127.0.0.1:{await listening(pass_on)}"
    options = {"site_url": "https://chat.example.com", "JOBS_HTTPSPROXY": proxy}
    found = (await look(TCP, **options))["by_proxy"]
    assert "user:***@" in found.value
    assert asked[0].startswith("CONNECT chat.example.com:443 ")
    assert "Proxy-Authorization: Basic " in asked[0]
    assert "tcp_no_address" not in (await look(TCP, **options)).codes
    direct = await look(TCP, **options, JOBS_NOPROXY="example.com")
    assert "by_proxy" not in direct.codes


async def test_a_loopback_site_is_nobody_for_a_container(look: Look, closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}"
    found = await look(TCP, site_url=url, JOBS_APITYPE="docker")
    assert found.verdicts["site_is_container_itself"] == "failure"
    shared = await look(TCP, site_url=url, JOBS_APITYPE="docker", DOCKER_NETWORK="host")
    assert "site_is_container_itself" not in shared.codes


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


class SecondServer(DatagramProtocol):
    """A name server that knows every name, by one address; the first one of the list is dead."""

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        question = data[12 : data.index(b"\0", 12) + 5]
        known = question[-4:-2] == b"\0\1"  # A, not AAAA
        head = data[:2] + b"\x81\x80\0\1" + (b"\0\1" if known else b"\0\0") + b"\0\0\0\0"
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x7f\0\0\x4d" if known else b""
        self.transport.sendto(head + question + answer, addr)

    def connection_made(self, transport: DatagramTransport) -> None:
        self.transport = transport


@pytest.mark.slow
async def test_names_as_other_hosts_have_them(
    namespace: Callable[..., list[Finding]],
    listening: Callable[..., Awaitable[int]],
    engine_missing: Callable[[str, str], None],
) -> None:
    """Of two addresses one is dead, of two name servers the first; a unit has variables."""
    loop = asyncio.get_running_loop()
    port = await listening(_silent)
    try:
        second, _ = await loop.create_datagram_endpoint(SecondServer, local_addr=("127.0.0.78", 53))
    except OSError as error:
        engine_missing("mount", f"port 53 cannot be had: {error.strerror}")
        raise AssertionError from None
    dead = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    dead.bind(("127.0.0.79", 53))
    try:
        files = {
            "/etc/default/calls-offloader": "JOBS_COPIESURL=s3://b\n",
            "/etc/hosts": "127.0.0.1 localhost two.test\n127.0.0.77 two.test\n",
            "/etc/resolv.conf": "nameserver 127.0.0.79\nnameserver 127.0.0.78\noptions timeout:1\n",
            "/etc/nsswitch.conf": "hosts: files dns\n",
        }

        async def run(name: str, *steps: str) -> dict[str, Finding]:
            options = (option for step in steps for option in ("--only", step))
            found = await aside(
                lambda: namespace(files, *options, "--site-url", f"http://{name}:{port}")
            )
            return {each.code: each for each in found}

        two = await run("two.test", "config", "tcp")
        assert two["config_environment_elsewhere"].value == "JOBS_COPIESURL"
        assert "127.0.0.77: connection refused" in two["tcp_some_addresses"].value
        assert "127.0.0.77" in (await run("chat.test", "dns"))["dns_slow"].value
    finally:
        second.close()
        dead.close()
