"""The SFUs behind one DNS name: who comes and goes, and who takes a new call (rtcd.md 4.2)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

from foundation.logs import get_logger
from sfu.messages import Message
from testbed.plugin.resolution import Resolve
from testbed.plugin.rtcd import Credentials, RtcdClient, RtcdError, RtcdUrl

RESOLVE_INTERVAL_S: Final = 10.0
_JITTER_S: Final = 5.0
"""A new host gets its client after up to this; a lost one is tried again after growing multiples."""
_LAST_ATTEMPT: Final = 8
"""The host is given up where this attempt would begin."""


class _Host:
    """One address and its connection."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.flagged = False
        """Its address vanished: it gets no new calls, but the running ones go on."""
        self.client: RtcdClient | None = None
        """None while it is not connected."""


class RtcdHosts:
    """`activate` once, `run` in a task; the rest from anywhere. A running call never changes its host."""

    def __init__(
        self,
        url: RtcdUrl,
        credentials: Credentials,
        *,
        on_message: Callable[[Message], Awaitable[None]],
        resolve: Resolve,
        resolve_interval_s: float = RESOLVE_INTERVAL_S,
        jitter_s: float = _JITTER_S,
    ) -> None:
        """`jitter_s`: the upper end of the random waits before connections that were not asked for."""
        self._url = url
        self._credentials = credentials
        self._on_message = on_message
        self._resolve = resolve
        self._resolve_interval_s = resolve_interval_s
        self._jitter_s = jitter_s
        self._hosts: dict[str, _Host] = {}
        self._log = get_logger(component="rtcd-hosts")

    def version(self) -> dict[str, str]:
        """`/version` of one of them; empty when none is connected."""
        return next((h.client.version for h in self._hosts.values() if h.client is not None), {})

    def describe(self) -> list[dict[str, object]]:
        """Address, connected, flagged: of each."""
        return [
            {"address": h.address, "connected": h.client is not None, "flagged": h.flagged}
            for h in self._hosts.values()
        ]

    async def activate(self) -> None:
        """Every host must connect, register and have a version that will do, or there is no plugin.

        Raises:
            RtcdError: why; nothing is left open.
        """
        try:
            addresses = await self._resolve(self._url.host)
        except OSError as error:  # TimeoutError is one
            raise RtcdError(f"the SFU {self._url} cannot be resolved: {error}") from error
        try:
            for address in addresses:
                host = self._hosts[address] = _Host(address)
                host.client = await self._connected(address)
        except BaseException:
            for host in self._hosts.values():
                if host.client is not None:
                    await host.client.close()
            raise

    async def run(self) -> None:
        """Keep the connections and follow the name, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for host in self._hosts.values():
                tasks.create_task(self._keep(host), name=f"rtcd-{host.address}")
            await self._follow_the_name(tasks)

    async def host_for_new_call(self) -> str:
        """The least loaded of those that are connected and not flagged; a random one if none tells its load.

        Raises:
            RtcdError: there is no such host.
        """
        clients = {
            h.address: h.client
            for h in self._hosts.values()
            if h.client is not None and not h.flagged
        }
        if not clients:
            raise RtcdError("no SFU is available")
        answers = await asyncio.gather(
            *(client.cpu_load() for client in clients.values()), return_exceptions=True
        )
        loads: dict[str, float] = {}
        for address, answer in zip(clients, answers, strict=True):
            if isinstance(answer, float):
                loads[address] = answer
            elif not isinstance(answer, RtcdError):
                raise answer
        return min(loads, key=loads.__getitem__) if loads else random.choice(list(clients))

    def send(self, address: str, message: Message) -> None:
        """To the host of a call; lost, with a log line, while that is not connected."""
        host = self._hosts.get(address)
        if host is None or host.client is None:
            self._log.error("rtcd.message_lost", address=address)
        else:
            host.client.send(message)

    async def _follow_the_name(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            await asyncio.sleep(self._resolve_interval_s)
            try:
                addresses = set(await self._resolve(self._url.host))
            except OSError as error:
                self._log.warning("rtcd.not_resolved", reason=type(error).__name__)
                continue
            for host in self._hosts.values():
                host.flagged = host.address not in addresses
            for address in addresses - set(self._hosts):
                host = self._hosts[address] = _Host(address)
                tasks.create_task(self._greet(host), name=f"rtcd-{address}")

    async def _connected(self, address: str) -> RtcdClient:
        client = RtcdClient(self._url, address, self._credentials, on_message=self._on_message)
        await client.connect()
        return client

    async def _greet(self, host: _Host) -> None:
        """A new address: a host that cannot be used is forgotten until it is found again."""
        await asyncio.sleep(random.uniform(0, self._jitter_s))
        try:
            host.client = await self._connected(host.address)
        except RtcdError as error:
            self._log.warning("rtcd.host_refused", address=host.address, reason=str(error))
            del self._hosts[host.address]
        else:
            await self._keep(host)

    async def _keep(self, host: _Host) -> None:
        """Until it is given up. Its sessions are not bound anew: their signaling is gone (rtcd.md 4.2)."""
        while host.client is not None:
            try:
                await host.client.run()
            finally:
                host.client = None
            host.client = await self._reconnected(host)
        self._log.warning("rtcd.host_dropped", address=host.address)
        del self._hosts[host.address]

    async def _reconnected(self, host: _Host) -> RtcdClient | None:
        interval_s = random.uniform(0, self._jitter_s)
        for attempt in range(1, _LAST_ATTEMPT):
            await asyncio.sleep(attempt * interval_s)
            if host.flagged:
                return None
            try:
                return await self._connected(host.address)
            except RtcdError as error:
                self._log.warning("rtcd.not_reconnected", attempt=attempt, reason=str(error))
        return None
