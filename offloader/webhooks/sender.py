"""One attempt to hand an event to its receiver over HTTP.

The address that is connected to is the one that was looked at, so that no name leads to a cloud's metadata
service. Nothing of an answer but its status is read. Neither URL nor secret gets into an error.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from foundation.addresses import why_forbidden
from foundation.clock import Clock
from offloader.notify.webhook import proxy_for
from offloader.setting_watching import NotifySettings
from offloader.setting_webhooks import WebhookSettings
from offloader.webhooks.event import signed_headers

if TYPE_CHECKING:
    import httpx

ATTEMPT_S: Final = 10.0
"""For all of it."""
_CONNECT_S: Final = 3.0
_MOST_ADDRESSES: Final = 3


class NotDelivered(Exception):
    """The receiver did not take the event, or nobody knows; one plain sentence."""


class Sender(Protocol):
    """How an event gets to its receiver."""

    async def send(self, event_id: str, body: str) -> None:
        """Raises NotDelivered."""

    async def aclose(self) -> None:
        """Let go of the connections."""


class HttpSender:
    """A `Sender` to one receiver."""

    def __init__(
        self, webhook: WebhookSettings, secret: bytes, *, way: NotifySettings, clock: Clock
    ) -> None:
        """`way`: the authority to trust, and the proxies."""
        self._url = webhook.url
        self._secret = secret
        self._way = way
        self._clock = clock
        self._proxy = proxy_for(way, webhook.url)
        self._client: httpx.AsyncClient | None = None

    async def send(self, event_id: str, body: str) -> None:
        import httpx  # only where somebody is to be told: it takes a tenth of a second

        headers = {
            "Content-Type": "application/json",
            "User-Agent": "calls-offloader",
            **signed_headers(
                body, event_id=event_id, secret=self._secret, now=self._clock.utc_now()
            ),
        }
        try:
            async with asyncio.timeout(ATTEMPT_S):
                client = self._client = self._client or self._new_client()
                status = await self._post(client, body.encode(), headers)
        except TimeoutError:
            raise NotDelivered(f"no answer within {ATTEMPT_S:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise NotDelivered(_reason(error)) from None
        if not 200 <= status < 300:
            raise NotDelivered(f"HTTP {status}")

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def _post(
        self, client: httpx.AsyncClient, body: bytes, headers: Mapping[str, str]
    ) -> int:
        """The answer's status."""
        import httpx

        url = httpx.URL(self._url)
        extensions = {"sni_hostname": url.host}
        if self._proxy:  # it resolves the name
            return await _status(client, url, body, headers, {})
        own = {**headers, "Host": url.netloc.decode("ascii")}
        unreachable: httpx.TransportError | None = None
        for address in await _addresses(self._url):
            try:
                return await _status(client, url.copy_with(host=address), body, own, extensions)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                unreachable = error
        raise unreachable or NotDelivered("its name means no address")

    def _new_client(self) -> httpx.AsyncClient:
        """Raises OSError: the CA file cannot be read."""
        import httpx

        trusted = ssl.create_default_context()
        if self._way.ca_cert_file is not None:
            trusted.load_verify_locations(self._way.ca_cert_file)
        return httpx.AsyncClient(
            verify=trusted,
            proxy=self._proxy or None,
            trust_env=False,
            timeout=httpx.Timeout(ATTEMPT_S, connect=_CONNECT_S),
            follow_redirects=False,
        )


async def _status(
    client: httpx.AsyncClient,
    url: httpx.URL,
    body: bytes,
    headers: Mapping[str, str],
    extensions: Mapping[str, str],
) -> int:
    request = client.build_request(
        "POST", url, content=body, headers=dict(headers), extensions=dict(extensions)
    )
    answer = await client.send(request, stream=True)
    await answer.aclose()  # its body, of any size, is of no interest
    return answer.status_code


async def _addresses(url: str) -> Sequence[str]:
    """Raises NotDelivered: one of them is no place for events."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, parts.port or 443, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        raise NotDelivered("its name is not known here") from None
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    for address in addresses:
        if reason := why_forbidden(address):
            raise NotDelivered(f"its name leads where no event goes: {reason}")
    return addresses[:_MOST_ADDRESSES]


def _reason(error: BaseException) -> str:
    """In plain words, without the URL."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({cause.verify_message}): see jobs.ca_cert_file"
        cause = cause.__cause__ or cause.__context__
    words = {
        "ConnectError": "cannot be reached",
        "ConnectTimeout": f"does not answer within {_CONNECT_S:g} s",
        "ProxyError": "the proxy refuses",
    }
    name = type(error).__name__
    return words.get(name, f"the connection failed ({name})")
