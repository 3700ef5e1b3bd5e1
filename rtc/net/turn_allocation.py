"""An allocation on a TURN server, on real sockets: `rtc.turn.client` with its link and its timer."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable

from rtc.errors import PortTaken, TransportError
from rtc.ice.path import Address
from rtc.ice.timings import FAR_FUTURE_NS
from rtc.net.turn_link import TurnLink, connect_link
from rtc.turn.client import Allocated, Ended, PeerRefused, TurnClient
from rtc.turn.servers import IceServer, ServerUrl

_CONNECT_TIMEOUT_S = 8.0


class TurnAllocation:
    """`open`, then `send` and callbacks, all from the loop; `close` in the end.

    `on_data(peer, datagram)`; `on_refused(peer, reason)`: the server does not relay to that peer;
    `on_ended(reason)`: at most once, after a successful `open`.
    """

    def __init__(
        self,
        url: ServerUrl,
        server: IceServer,
        *,
        on_data: Callable[[Address, bytes], None],
        on_refused: Callable[[Address, str], None],
        on_ended: Callable[[str], None],
    ) -> None:
        self.url = url
        self._client = TurnClient(
            username=server.username, password=server.credential, reliable=url.link != "udp"
        )
        self._on_data = on_data
        self._on_refused = on_refused
        self._on_ended = on_ended
        self._link: TurnLink | None = None
        self._opened: asyncio.Future[Allocated] | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ns = FAR_FUTURE_NS
        self._closed = False

    @property
    def relayed(self) -> Address | None:
        """Our address at the server, once allocated."""
        return self._client.relayed

    async def open(self, tls: ssl.SSLContext | None) -> Allocated:
        """Connect and allocate.

        Raises:
            TransportError: it did not come to that; the reason names no credentials. Everything is closed.
        """
        self._opened = self._loop.create_future()
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                self._link = await connect_link(
                    self.url, tls=tls, on_message=self._received, on_closed=self._link_closed
                )
            self._client.start(time.monotonic_ns())
            self._pump()
            return await self._opened
        except TimeoutError:
            self.close()
            raise TransportError(f"no connection within {_CONNECT_TIMEOUT_S:g} s") from None
        except ssl.SSLCertVerificationError as error:
            self.close()
            raise TransportError(f"its certificate: {error.verify_message}") from None
        except (OSError, PortTaken) as error:
            self.close()
            raise TransportError(getattr(error, "strerror", None) or str(error)) from None
        except BaseException:
            self.close()
            raise

    def send(self, datagram: bytes | memoryview, peer: Address) -> None:
        """Relay a datagram; dropped when that cannot be."""
        self._client.send(datagram, peer, time.monotonic_ns())
        self._pump()

    def close(self) -> None:
        """Give the allocation back and close the connection; idempotent. No callback comes after it."""
        if self._closed:
            return
        self._closed = True
        self._stop_timer()
        self._client.release(time.monotonic_ns())
        if self._link is not None:
            for message in self._client.take_outgoing():
                self._link.send(message)
            self._link.close()

    def _received(self, message: bytes) -> None:
        if self._closed:
            return
        relayed = self._client.receive(message, time.monotonic_ns())
        if relayed is not None:
            self._on_data(*relayed)
        else:
            self._pump()

    def _link_closed(self, reason: str) -> None:
        self._over(reason)

    def _pump(self) -> None:
        client, link = self._client, self._link
        if self._closed or link is None:
            return
        for message in client.take_outgoing():
            link.send(message)
        for event in client.take_events():
            match event:
                case Allocated():
                    if self._opened is not None and not self._opened.done():
                        self._opened.set_result(event)
                case PeerRefused(peer, reason):
                    self._on_refused(peer, reason)
                case Ended(reason):
                    self._over(reason)
            if self._closed:
                return
        if client.due_ns != self._timer_ns:
            self._stop_timer()
            self._timer_ns = client.due_ns
            if client.due_ns < FAR_FUTURE_NS:
                delay_s = max(0.0, (client.due_ns - time.monotonic_ns()) / 1e9)
                self._timer = self._loop.call_later(delay_s, self._tick)

    def _tick(self) -> None:
        self._timer, self._timer_ns = None, FAR_FUTURE_NS
        self._client.tick(time.monotonic_ns())
        self._pump()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _over(self, reason: str) -> None:
        if self._closed:
            return
        self.close()
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(TransportError(reason))
        else:
            self._on_ended(reason)
