"""Where the servers of a run listen, and whether they can."""

from __future__ import annotations

import errno
import random
import socket
from dataclasses import dataclass, fields
from typing import Final

HOST: Final = "127.0.0.1"
_FREE_RANGE: Final = (20_000, 32_000)
"""Below what the system gives away by itself, and within what an SFU accepts (rtcd.md 1.3)."""


class PortTaken(Exception):
    """A port is in use; the message names it, who wants it and the setting."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the servers listen; each can be changed by an option of the demo."""

    sfu: int = 8045
    media: int = 8443
    plugin: int = 8065
    offloader: int = 4545

    @classmethod
    def free(cls) -> Ports:
        """Ports that nobody uses just now, for runs beside others."""
        found: list[int] = []
        while len(found) < len(fields(cls)):
            port = random.randrange(*_FREE_RANGE)
            if port not in found and _is_free(port):
                found.append(port)
        return cls(*found)

    def check(self) -> None:
        """Raises PortTaken when one of them cannot be had."""
        _check_port(self.sfu, "tcp", "the SFU's API", "--sfu-port")
        _check_port(self.media, "udp", "the SFU's media socket", "--media-port")
        _check_port(self.plugin, "tcp", "the stand-in for Mattermost and Calls", "--plugin-port")
        _check_port(self.offloader, "tcp", "the offloader", "--offloader-port")


def _check_port(port: int, protocol: str, who: str, option: str) -> None:
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as probe:
        if protocol == "tcp":
            # As the servers do: a connection of an earlier run in TIME_WAIT is no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise PortTaken(
                    f"port {port}/{protocol} for {who} cannot be used: {error.strerror}; "
                    f"choose another one with make demo DEMO_ARGS={option}=PORT"
                ) from error
            raise PortTaken(
                f"port {port}/{protocol} is taken; {who} wants it: stop what uses it, "
                f"or choose another one with make demo DEMO_ARGS={option}=PORT"
            ) from error


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                return False
    return True
