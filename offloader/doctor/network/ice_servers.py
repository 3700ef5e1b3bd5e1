"""Step `ice-servers`: do the STUN and TURN servers that the plugin names answer (calls-plugin.md 4.11)?

A TURN server is asked for an address with the very credentials that people get; it gets it back.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import httpx

from offloader.doctor.finding import Finding, failure, ok, skipped, warning
from offloader.doctor.network import stun
from offloader.doctor.network.media_probe import exchange, probe_tcp, probe_udp
from offloader.doctor.network.stun import Response, StunError
from offloader.doctor.network.way import (
    PLUGIN_PATH,
    Way,
    json_object,
    reason_of,
    trusting,
    unreached,
)
from offloader.doctor.step import Context, Step

_MOST: Final = 8
_ANSWER_S: Final = 3.0
_TRIES: Final = 3
_REQUESTED_UDP: Final = bytes((17, 0, 0, 0))
"""The protocol of the relayed side (RFC 8656 section 18.7)."""
_FORM: Final = re.compile(
    r"(?P<scheme>stuns?|turns?):(?:\[(?P<six>[^\]]+)\]|(?P<host>[^:?\[]+))(?::(?P<port>\d+))?"
    r"(?:\?transport=(?P<transport>udp|tcp))?"
)

Ask = Callable[[bytes], Awaitable[Response]]
"""One request, one response. Raises OSError, EOFError or StunError."""


@dataclass(frozen=True, slots=True)
class Server:
    """One URL of a STUN or TURN server (RFC 7064, RFC 7065), with what to say there."""

    url: str
    turn: bool
    tls: bool
    host: str
    port: int
    transport: str
    username: str = field(default="", repr=False)
    credential: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str, entry: Mapping[str, Any]) -> Server | None:
        """None for what is no such URL."""
        found = _FORM.fullmatch(url)
        if found is None:
            return None
        tls = found["scheme"].endswith("s")
        return cls(
            url,
            found["scheme"].startswith("turn"),
            tls,
            found["six"] or found["host"],
            int(found["port"] or (5349 if tls else 3478)),
            found["transport"] or ("tcp" if tls else "udp"),
            str(entry.get("username") or ""),
            str(entry.get("credential") or ""),
        )


async def look(context: Context) -> Sequence[Finding]:
    """Every server, with credentials where the plugin gives some."""
    way = Way.of(context)
    if (missing := await unreached(way)) is not None or way is None:
        return [missing] if missing else []
    if not context.token:
        cause = "the plugin names them to users only: --token-file"
        return [skipped("ice_servers_need_token", "STUN and TURN servers", cause)]
    try:
        servers = await _servers(way, context.token)
    except httpx.HTTPStatusError as error:
        cause = f"HTTP {error.response.status_code}: see plugin"
        return [skipped("ice_servers_unknown", "STUN and TURN servers", cause)]
    except httpx.HTTPError as error:
        return [skipped("ice_servers_unknown", "STUN and TURN servers", reason_of(error))]
    if not servers:
        cause = "the plugin names none: jobs and people reach the SFU directly"
        return [skipped("ice_servers_none", "STUN and TURN servers", cause)]
    return await asyncio.gather(*(_one(server, context) for server in servers[:_MOST]))


async def _servers(way: Way, token: str) -> list[Server]:
    """Raises httpx.HTTPError; HTTPStatusError: the plugin does not tell."""
    async with way.http(token=token) as http:
        response = await http.get(f"{PLUGIN_PATH}/config")
        if response.status_code != httpx.codes.OK:
            raise httpx.HTTPStatusError("no config", request=response.request, response=response)
        config = json_object(response)
        entries = config.get("ICEServersConfigs")
        entries = list(entries) if isinstance(entries, list) else []
        if config.get("NeedsTURNCredentials"):
            answer = await http.get(f"{PLUGIN_PATH}/turn-credentials")
            with contextlib.suppress(ValueError):
                more = answer.json()
                entries += more if isinstance(more, list) else []
    return [
        server
        for entry in entries
        if isinstance(entry, Mapping)
        for url in entry.get("urls") or ()
        if (server := Server.parse(str(url), entry)) is not None
    ]


async def _one(server: Server, context: Context) -> Finding:
    return await (_turn(server, context) if server.turn else _stun(server, context))


async def _stun(server: Server, context: Context) -> Finding:
    make = partial(stun.request, stun.BINDING)
    if server.transport == "udp":
        probe = await probe_udp(server.host, server.port, make, requests=3)
    else:
        tls = trusting(context.ca_file) if server.tls else None
        probe = await probe_tcp(
            server.host,
            server.port,
            make,
            requests=1,
            frames=False,
            tls=tls,
            server_name=server.host,
        )
    if probe.answered:
        value = f"in {probe.round_trip_ms:.1f} ms, sees us as {probe.mapped}"
        return ok("stun_answers", server.url, value)
    return warning(
        "stun_silent",
        server.url,
        probe.reason or "no answer",
        cause="jobs and browsers wait for it when they join; the SFU is reached without it all the same",
        fix=("System Console > Plugins > Calls > ICE Servers Configurations: take it out",),
    )


async def _turn(server: Server, context: Context) -> Finding:
    if not (server.username and server.credential):
        cause = "the plugin gives no credentials for it"
        return skipped("turn_no_credentials", server.url, cause)
    try:
        async with _asking(server, context) as ask:
            relayed = await _allocated(ask, server)
    except _Refused as error:
        return failure(
            "turn_refuses",
            server.url,
            str(error),
            cause="it knows another secret, its clock differs, or it gives no addresses any more",
            fix=(
                "System Console > Plugins > Calls > TURN Static Auth Secret: as in the TURN server",
            ),
        )
    except (OSError, EOFError, StunError) as error:
        return failure(
            "turn_silent",
            server.url,
            reason_of(error),
            cause="who needs it, behind a firewall that lets nothing else through, cannot join",
            fix=(f"let this host and people reach {server.host}:{server.port}/{server.transport}",),
        )
    return ok("turn_relays", server.url, f"by {relayed}, which is given back")


class _Refused(Exception):
    """The server answered with an error."""


async def _allocated(ask: Ask, server: Server) -> str:
    """The relayed address, which is released again (RFC 8656 section 7). Raises _Refused and as Ask."""
    wanted = (stun.REQUESTED_TRANSPORT, _REQUESTED_UDP)
    first = await ask(stun.request(stun.ALLOCATE, stun.new_transaction_id(), [wanted]))
    realm, nonce = (first.attributes.get(kind, b"") for kind in (stun.REALM, stun.NONCE))
    if first.error_code != 401 or not nonce:
        raise _Refused(f"error {first.error_code} instead of a challenge")
    key = stun.long_term_key(server.username, realm.decode(errors="replace"), server.credential)
    who = [(stun.USERNAME, server.username.encode()), (stun.REALM, realm), (stun.NONCE, nonce)]
    second = await ask(
        stun.request(stun.ALLOCATE, stun.new_transaction_id(), [wanted, *who], key=key)
    )
    if not second.succeeded:
        raise _Refused(f"error {second.error_code}")
    relayed = second.address(stun.XOR_RELAYED_ADDRESS)
    gone = (stun.LIFETIME, bytes(4))
    with contextlib.suppress(OSError, EOFError, StunError):  # it ends by itself, too
        await ask(stun.request(stun.REFRESH, stun.new_transaction_id(), [gone, *who], key=key))
    return f"{relayed[0]}:{relayed[1]}" if relayed else "an address that it does not tell"


@contextlib.asynccontextmanager
async def _asking(server: Server, context: Context) -> AsyncIterator[Ask]:
    """Raises OSError: no connection."""
    if server.transport == "udp":
        transport, datagrams = await asyncio.get_running_loop().create_datagram_endpoint(
            _Datagrams, remote_addr=(server.host, server.port)
        )
        try:
            yield partial(_ask_by_udp, transport, datagrams)
        finally:
            transport.close()
        return
    tls = trusting(context.ca_file) if server.tls else None
    async with asyncio.timeout(_ANSWER_S):
        reader, writer = await asyncio.open_connection(
            server.host, server.port, ssl=tls, server_hostname=server.host if tls else None
        )
    try:
        yield partial(exchange, reader, writer, timeout_s=_ANSWER_S)
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(writer.wait_closed(), 1)


class _Datagrams(asyncio.DatagramProtocol):
    """The newest datagrams, at most 16."""

    def __init__(self) -> None:
        self.came: asyncio.Queue[bytes | OSError] = asyncio.Queue(16)

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._put(data)

    def error_received(self, exc: Exception) -> None:
        self._put(exc if isinstance(exc, OSError) else OSError(str(exc)))

    def _put(self, item: bytes | OSError) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self.came.put_nowait(item)


async def _ask_by_udp(
    transport: asyncio.DatagramTransport, datagrams: _Datagrams, message: bytes
) -> Response:
    """Sent again while nothing comes (RFC 8489 section 6.2.1). Raises OSError and StunError."""
    for attempt in range(_TRIES):
        transport.sendto(message)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5 * 2**attempt):
                while True:
                    item = await datagrams.came.get()
                    if isinstance(item, OSError):
                        raise item
                    response = stun.parse_response(item)
                    if response.transaction_id == message[8:20]:
                        return response
    raise TimeoutError


ICE_SERVERS: Final = Step("ice-servers", "STUN and TURN servers", look, timeout_s=40)
