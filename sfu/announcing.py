"""What the media side asks of `sfu.addresses`: where to listen, and what newcomers are told."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from rtc.net.announced import Announced, Listening
from sfu.addresses import CachedResolver, announced_addresses, bind_addresses, local_ips
from sfu.settings import SfuSettings


class Announcer:
    """Addresses by the settings. Discovered ones are found out once; a host name is followed."""

    def __init__(self, settings: SfuSettings) -> None:
        """Raises AddressError: this host has no address that can be used."""
        self._settings = settings
        self._resolver = CachedResolver()
        self._known: list[Announced] | None = None
        self._follows_name = _is_name(settings.ice_host_override)
        local = local_ips(settings)
        self.listening: Sequence[Listening] = [
            *(Listening("udp", host) for host in bind_addresses(settings, "udp", local)),
            *(Listening("tcp", host) for host in bind_addresses(settings, "tcp", local)),
        ]

    async def __call__(self) -> Sequence[Announced]:
        """What clients are told. The first call must come before the media port is bound.

        Raises:
            AddressError: the host override cannot be understood, or never could be resolved.
        """
        if self._known is None or self._follows_name:
            entries = await announced_addresses(self._settings, resolve=self._resolver)
            self._known = [
                Announced(entry.transport, entry.address, entry.port, entry.bind_address)
                for entry in entries
            ]
        return self._known


def _is_name(override: str) -> bool:
    if not override or "/" in override:
        return False
    try:
        ipaddress.ip_address(override)
    except ValueError:
        return True
    return False
