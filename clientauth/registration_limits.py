"""How many clients may register themselves: of one network within an hour, and all together.

A Mattermost is one client, so no real site meets either. Who is registered already is never asked, and the
admin may add any number.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal

from clientauth.store import ClientStore
from clientauth.turns import source
from foundation.clock import Clock
from foundation.newest import keep_newest

WINDOW_NS: Final = 3_600_000_000_000
_NETWORKS: Final = 4096
_PREFIX_V4: Final = 24
_PREFIX_V6: Final = 48
"""What one customer of a provider may have to itself (RFC 6177 section 2)."""

Limit = Literal["per_network", "total"]


class TooManyRegistrations(Exception):
    """No further client may register itself now; the text says which limit that is and what helps."""


@dataclass(frozen=True, slots=True)
class RegistrationLimits:
    """None: no limit."""

    per_network: int | None = None
    """Clients of one network (IPv4: /24, IPv6: /48) within an hour, at this replica."""
    total: int | None = None
    """Clients in the store, however they got there, beyond which none registers itself."""


@dataclass(slots=True)
class _Network:
    until_ns: int
    count: int = 0


class RegistrationRoom:
    """Lives on one event loop. Networks are remembered of the newest registrations only, and only of those
    that were let in, so that refusals push nothing out."""

    def __init__(self, *, store: ClientStore, clock: Clock, limits: RegistrationLimits) -> None:
        self._store = store
        self._clock = clock
        self._limits = limits
        self._networks: dict[str, _Network] = {}
        self._under_way = 0
        self.refused: dict[Limit, int] = {"per_network": 0, "total": 0}
        """By the limit that was met."""

    def retune(self, limits: RegistrationLimits) -> None:
        """These from now on."""
        self._limits = limits

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """For a client that the block stores; one that it does not store counts no more.

        Raises:
            TooManyRegistrations: there is none; nothing but the number of clients was read for that.
        """
        network = self._network()
        network.count += 1
        self._under_way += 1  # those of this process that the store does not know yet count as well
        try:
            await self._check_total()
            yield
        except BaseException:
            network.count -= 1
            raise
        finally:
            self._under_way -= 1

    def _network(self) -> _Network:
        name, now_ns = _network_of(source()), self._clock.monotonic_ns()
        known = self._networks.get(name)
        if known is None or now_ns >= known.until_ns:
            known = _Network(now_ns + WINDOW_NS)
        most = self._limits.per_network
        if most is not None and known.count >= most:
            self.refused["per_network"] += 1
            raise TooManyRegistrations(
                f"{most} clients of its network have registered themselves within an hour "
                "(api.security.registration_limits.per_network): try again later, or have it added by "
                "offloader clients add"
            )
        keep_newest(self._networks, name, known, most=_NETWORKS)
        return known

    async def _check_total(self) -> None:
        most = self._limits.total
        if most is not None and await self._store.count() + self._under_way > most:
            self.refused["total"] += 1
            raise TooManyRegistrations(
                f"{most} clients are registered, beyond which none registers itself "
                "(api.security.registration_limits.total): offloader clients revoke removes those that "
                "nobody needs, offloader clients add adds more"
            )


def _network_of(sender: str) -> str:
    """`sender`: as `source` tells it."""
    try:
        network = ipaddress.ip_network(sender)
    except ValueError:
        return sender
    prefix = _PREFIX_V4 if network.version == 4 else _PREFIX_V6
    return str(network.supernet(new_prefix=prefix))
