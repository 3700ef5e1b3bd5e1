"""Verdicts of the step `tls`, each by a real TLS server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from offloader.doctor.network.certificate import TLS

Look = Callable[..., Awaitable[Any]]
Listening = Callable[..., Awaitable[int]]


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.fixture
def served(listening: Listening, authority: Any, tmp_path: Path) -> Callable[..., Awaitable[str]]:
    """`await served(begins=…, ends=…, names=…)`: the URL of a server with such a certificate."""

    async def serve(**certificate: Any) -> str:
        context = authority.server(tmp_path, **({"begins": -1, "ends": 90} | certificate))
        return f"https://127.0.0.1:{await listening(_silent, context)}"

    return serve


async def test_a_good_certificate_is_told_with_its_end(
    look: Look, served: Callable[..., Awaitable[str]], authority: Any
) -> None:
    found = (await look(TLS, site_url=await served(), ca_file=authority.file))["tls_trusted"]
    assert found.data["days"] == 89
    assert found.data["names"] == ["127.0.0.1"]
    assert "Test Authority" in found.value


async def test_three_weeks_before_its_end_it_is_a_warning(
    look: Look, served: Callable[..., Awaitable[str]], authority: Any
) -> None:
    async def verdicts(days: float) -> Any:
        url = await served(ends=days)
        return (await look(TLS, site_url=url, ca_file=authority.file)).verdicts

    assert await verdicts(20.5) == {"tls_expires_soon": "warning"}
    assert await verdicts(21.5) == {"tls_trusted": "ok"}


async def test_an_expired_one_is_a_failure_with_its_day(
    look: Look, served: Callable[..., Awaitable[str]], authority: Any
) -> None:
    url = await served(begins=-9, ends=-2)
    found = (await look(TLS, site_url=url, ca_file=authority.file))["tls_expired"]
    assert (found.verdict, found.data["ends"][:2]) == ("failure", "20")
    url = await served(begins=2)
    found = await look(TLS, site_url=url, ca_file=authority.file)
    assert found.verdicts == {"tls_not_yet_valid": "failure"}


async def test_the_wrong_name_is_a_failure_with_the_right_one(
    look: Look, served: Callable[..., Awaitable[str]], authority: Any
) -> None:
    url = await served(names=("chat.example.com",))
    found = (await look(TLS, site_url=url, ca_file=authority.file))["tls_wrong_name"]
    assert "chat.example.com" in found.value
    assert f'jobs.site_url_overrides = {{"{url}" = "https://chat.example.com"}}' in found.fix


async def test_an_unknown_authority_is_a_failure_and_the_setting_is_named(
    look: Look, served: Callable[..., Awaitable[str]], other_authority: Any
) -> None:
    url = await served()
    found = (await look(TLS, site_url=url))["tls_unknown_issuer"]
    assert found.data["issuer"] == "CN=Test Authority"
    assert found.fix[0].startswith("jobs.ca_cert_file = ")
    found = (await look(TLS, site_url=url, ca_file=other_authority.file))["tls_unknown_issuer"]
    assert str(other_authority.file) in found.fix[0]


async def test_a_certificate_for_something_else_is_told_in_openssls_words(
    look: Look, served: Callable[..., Awaitable[str]], authority: Any
) -> None:
    url = await served(purpose=ExtendedKeyUsageOID.CLIENT_AUTH)
    found = (await look(TLS, site_url=url, ca_file=authority.file))["tls_distrusted"]
    assert "purpose" in found.value


async def test_plain_http_on_that_port_is_a_failure(look: Look, listening: Listening) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    found = await look(TLS, site_url=f"https://127.0.0.1:{await listening(plain)}")
    assert found.verdicts == {"tls_fails": "failure"}


async def test_a_ca_file_without_certificates_is_a_failure(look: Look, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    found = await look(TLS, site_url="https://127.0.0.1:1", ca_file=empty)
    assert found.verdicts == {"ca_file_unusable": "failure"}
    assert str(empty) in found["ca_file_unusable"].value


async def test_without_https_there_is_nothing_to_trust(look: Look, closed_port: int) -> None:
    assert (await look(TLS, site_url="http://127.0.0.1:1")).verdicts == {"tls_none": "note"}
    refused = await look(TLS, site_url=f"https://127.0.0.1:{closed_port}")
    assert refused.verdicts == {"tls_no_connection": "skipped"}
