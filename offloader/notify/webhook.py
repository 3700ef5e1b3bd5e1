"""Sends lines to an incoming webhook of Mattermost: `{"text": …, "username": …}`, nothing else.

The webhook's URL is a secret, so no error is logged with its text: HTTP libraries name the URL.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

from offloader.setting_watching import NotifySettings

if TYPE_CHECKING:
    import httpx

_TIMEOUT_S: Final = 10.0
_AT_MOST_S: Final = 30.0
"""For all of it. A site that is slow gets that long to answer: the line may be there, and would be twice."""
_USERNAME: Final = "calls-offloader"
_ADVICE: Final[Mapping[int, str]] = {
    400: "the webhook is not known, or disabled",
    401: "the webhook is not known, or disabled",
    403: "incoming webhooks are disabled, or the channel is gone",
    404: "the webhook, or its channel, is gone",
    413: "something in front of Mattermost refuses the size",
    429: "too many requests",
    501: "incoming webhooks are disabled in the System Console",
}


class NotSent(Exception):
    """The line did not arrive; the text says why and holds no part of the URL."""

    def __init__(self, text: str, *, retryable: bool) -> None:
        super().__init__(text)
        self.retryable = retryable


class Sender(Protocol):
    """How a line gets to the admins."""

    async def send(self, text: str) -> None:
        """Raises NotSent."""

    async def aclose(self) -> None:
        """Nothing is sent any more."""


class MattermostWebhook:
    """A `Sender` to `settings.webhook`."""

    def __init__(self, settings: NotifySettings) -> None:
        self._settings = settings
        self._client: httpx.AsyncClient | None = None

    async def send(self, text: str) -> None:
        import httpx  # only where somebody is to be told: it takes a tenth of a second

        try:
            client = self._client = self._client or self._new_client()
            document = {"text": text, "username": _USERNAME}
            async with asyncio.timeout(_AT_MOST_S):
                # Its body, of any size, is of no interest.
                async with client.stream("POST", self._settings.webhook, json=document) as answer:
                    status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise NotSent(_reason(error), retryable=True) from None
        if not answer.is_success:
            advice = _ADVICE.get(status)
            why = f"HTTP {status}" + (f": {advice}" if advice else "")
            raise NotSent(why, retryable=status >= 500 or status in (408, 429))

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    def _new_client(self) -> httpx.AsyncClient:
        """Raises OSError: the CA file cannot be read."""
        import httpx

        trusted = ssl.create_default_context()
        if self._settings.ca_cert_file is not None:
            trusted.load_verify_locations(self._settings.ca_cert_file)
        return httpx.AsyncClient(
            verify=trusted,
            proxy=proxy_for(self._settings) or None,
            trust_env=False,
            timeout=httpx.Timeout(_TIMEOUT_S, read=_AT_MOST_S),
            follow_redirects=False,
        )


def proxy_for(settings: NotifySettings, url: str = "") -> str:
    """The proxy on the way to `url`, or else to the webhook; empty: none."""
    parts = urlsplit(url or settings.webhook)
    proxy = settings.https_proxy if parts.scheme == "https" else settings.http_proxy
    direct = proxy_bypass(parts.netloc, {"no": settings.no_proxy})
    return "" if direct else proxy


def _reason(error: BaseException) -> str:
    """In plain words, without the URL."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({cause.verify_message}): see jobs.ca_cert_file"
        cause = cause.__cause__ or cause.__context__
    words = {
        "ConnectError": "cannot be reached",
        "ConnectTimeout": f"does not answer within {_TIMEOUT_S:g} s",
        "ReadTimeout": f"does not answer within {_AT_MOST_S:g} s",
        "TimeoutError": f"does not answer within {_AT_MOST_S:g} s",
        "ProxyError": "the proxy refuses",
        "FileNotFoundError": "jobs.ca_cert_file cannot be read",
        "InvalidURL": "the webhook is no URL that can be asked",
    }
    name = type(error).__name__
    return words.get(name, f"the connection failed ({name})")
