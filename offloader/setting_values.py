"""The forms of single values: sizes, retention times, addresses, site URLs. Pure.

Every function raises ValueError with what the value should be; whoever calls it names the key.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from clientauth.self_registration import Network

_SIZE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_PORTS = {"http": 80, "https": 443}
_OF_THE_HOST = (
    *("/boot", "/dev", "/etc", "/proc", "/run", "/sys", "/var/run"),
    *("/var/lib/docker", "/var/lib/containerd"),
)
"""No container is shown any of these, nor what is above or below it."""
_COPIES_URL = re.compile(r"s3://[^/@?#\s]+(/[^?#\s]*)?|file:///[^\s]+")


def parse_retention(text: str) -> timedelta | None:
    """`30d`, `12h`, `90m`; `0` in any unit means for ever (None).

    Raises:
        ValueError: with the text of job-service.md 3.
    """
    match = re.fullmatch(r"([0-9]{1,6})([mhd])", text)
    if match is None and text != "0":
        raise ValueError(
            "invalid retention time format: should be as 30m, 12h or 30d; 0 = for ever"
        )
    if match is None or int(match[1]) == 0:
        return None
    unit = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}[match[2]]
    return int(match[1]) * unit


def parse_keep(text: str) -> timedelta:
    """As `parse_retention`; `0` in any unit means not at all.

    Raises:
        ValueError: another form.
    """
    try:
        return parse_retention(text) or timedelta(0)
    except ValueError:
        raise ValueError(f'"{text}": should be as 30m, 12h or 30d; 0 = not at all') from None


def in_words(time: timedelta) -> str:
    """A time as somebody would say it, whole numbers in the largest unit: 14 days, 12 hours."""
    seconds = round(time.total_seconds())
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds and seconds % length == 0:
            count = seconds // length
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{seconds} seconds"


def parse_size(value: int | str) -> int:
    """Bytes of `5GiB`, `500MiB`, `1048576`.

    Raises:
        ValueError: another form.
    """
    match = re.fullmatch(rf"([0-9]{{1,15}})\s*({'|'.join(_SIZE_UNITS)})?", str(value).strip())
    if match is None:
        raise ValueError(
            f"{value!r}: should be a number of bytes, or a size such as 500MiB or 5GiB"
        )
    return int(match[1]) << (10 * _SIZE_UNITS.index(match[2] or "B"))


def split_address(address: str) -> tuple[str, int]:
    """Host (may be empty) and port of `host:port`; IPv6 hosts stand in brackets.

    Raises:
        ValueError: another form.
    """
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or (":" in host and not bracketed) or not re.fullmatch(r"[0-9]{1,5}", port):
        raise ValueError(f'invalid ListenAddress value: "{address}": should be host:port or :port')
    if int(port) > 65535:
        raise ValueError(f'invalid ListenAddress value: "{address}": the port is above 65535')
    return host[1:-1] if bracketed else host, int(port)


def parse_extra_hosts(entries: Iterable[Any]) -> tuple[tuple[str, str], ...]:
    """Name and address of `name:address` each; the address may be `host-gateway`, as for Docker.

    Raises:
        ValueError: another form.
    """
    hosts: list[tuple[str, str]] = []
    for entry in entries:
        name, _, address = str(entry).partition(":")
        address = address.removeprefix("[").removesuffix("]")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}", name) or not _is_address(address):
            raise ValueError(
                f"{entry!r}: should be name:address, such as chat.example.com:10.0.0.5"
            )
        hosts.append((name, address))
    return tuple(hosts)


def parse_site_urls(entries: Mapping[str, Any]) -> dict[str, str]:
    """Site URL to site URL, both as `normal_site_url` writes them.

    Raises:
        ValueError: an entry that is no site URL.
    """
    return {normal_site_url(str(key)): normal_site_url(str(url)) for key, url in entries.items()}


def parse_allowed_sites(entries: Sequence[str]) -> frozenset[str]:
    """As `normal_site_url` writes them.

    Raises:
        ValueError: an entry that is no site URL.
    """
    return frozenset(normal_site_url(str(entry)) for entry in entries)


def normal_site_url(url: str) -> str:
    """`https://chat.example.com`: without the slash at its end and the scheme's own port, scheme and host in
    small letters.

    Raises:
        ValueError: not http or https, no host, or a path (calls-plugin.md 9: jobs refuse it).
    """
    wanted = f"{url!r}: should be a site URL without a path, such as https://chat.example.com"
    try:
        parts = urlsplit(url.strip().removesuffix("/"))
        port = parts.port
    except ValueError as error:
        raise ValueError(wanted) from error
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError(wanted)
    if parts.path or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(wanted)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    usual = port is None or port == _PORTS[parts.scheme]
    return f"{parts.scheme}://{host}" + ("" if usual else f":{port}")


def parse_proxy(url: str) -> str:
    """`http://user:password@host:port`, or empty; without a scheme it is http, as curl and Go read it.

    Raises:
        ValueError: another form; the value is not shown, since it may hold a password.
    """
    url = url.strip()
    if not url:
        return ""
    full = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(full)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("should be the URL of an HTTP proxy, such as http://proxy:3128")
    return full


def parse_copies_url(url: str) -> str:
    """`s3://bucket[/prefix]`, `file:///directory`, or empty (docs/copies.md).

    Raises:
        ValueError: another form; the value is not shown, since it may hold a key.
    """
    url = url.strip()
    if url and not _COPIES_URL.fullmatch(url):
        raise ValueError(
            "should be s3://BUCKET[/PREFIX] or file:///DIRECTORY; keys go into AWS_* variables"
        )
    return url


def parse_networks(entries: Iterable[Any]) -> tuple[Network, ...]:
    """Addresses and networks (`10.1.0.0/16`, `fd00::/8`).

    Raises:
        ValueError: an entry that is none.
    """
    networks: list[Network] = []
    for entry in entries:
        try:
            networks.append(ipaddress.ip_network(str(entry).strip()))
        except ValueError as error:
            raise ValueError(
                f"{entry!r}: should be an address or a network, such as 10.1.2.3 or 10.1.0.0/16"
            ) from error
    return tuple(networks)


def parse_client_ids(entries: Iterable[Any]) -> frozenset[str]:
    """IDs of clients.

    Raises:
        ValueError: an entry that can be none.
    """
    for entry in entries:
        if not isinstance(entry, str) or not entry.strip() or ":" in entry:
            raise ValueError(f"{entry!r}: should be a client ID: a text without a colon")
    return frozenset(str(entry).strip() for entry in entries)


def _is_address(text: str) -> bool:
    if text == "host-gateway":
        return True
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def engine_without_tls(address: str, environ: Mapping[str, str]) -> bool:
    """Whether a Docker Engine is spoken to over TCP without TLS that checks both sides. `address`: as in
    DOCKER_HOST; a name alone is TCP for the SDK."""
    scheme, separator, _ = address.partition("://")
    over_tcp = bool(address) and (not separator or scheme in ("tcp", "http"))
    return over_tcp and not environ.get("DOCKER_TLS_VERIFY")


def parse_models_place(text: str) -> str:
    """A volume's name, or the path of a directory on the engine's host, which containers shall see.

    Raises:
        ValueError: it is neither, or a place in which the host, or its engine, keeps what is its own.
    """
    path = posixpath.normpath(text)
    if not text or re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", text):
        return text
    if not text.startswith("/") or ":" in text or not text.isprintable():
        raise ValueError("should be a volume's name, or an absolute path without a colon")
    for own in _OF_THE_HOST:
        if posixpath.commonpath((own, path)) in (own, path):
            raise ValueError(f"{own} is the host's own: should be a directory with models alone")
    return path
