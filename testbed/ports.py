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
    broker: int = 6399
    """This and the next two: with workers only."""
    worker: int = 4546
    second_worker: int = 4547

    @classmethod
    def free(cls) -> Ports:
        """Ports that nobody uses just now, for runs beside others."""
        found: list[int] = []
        while len(found) < len(fields(cls)):
            port = random.randrange(*_FREE_RANGE)
            if port not in found and _is_free(port):
                found.append(port)
        return cls(*found)

    def check(self, *, host: str = HOST, bundled_sfu: bool = True, workers: bool = False) -> None:
        """Raises PortTaken when one of them cannot be had; those of the SFU matter only if the bundled one
        runs, the broker's and the doors' only with `workers`. `host`: where browsers come to."""
        if bundled_sfu:
            _check_port(self.sfu, "tcp", "the SFU's API", "--sfu-port")
            _check_port(self.media, "udp", "the SFU's media socket", "--media-port", host)
            _check_port(self.media, "tcp", "the SFU's media listener", "--media-port", host)
        site = "the stand-in for Mattermost and Calls"
        _check_port(self.plugin, "tcp", site, "--plugin-port", host)
        _check_port(self.offloader, "tcp", "the offloader", "--offloader-port")
        if workers:
            _check_port(self.broker, "tcp", "the broker", "--broker-port")
            _check_port(self.worker, "tcp", "the first worker", "--worker-port")
            _check_port(self.second_worker, "tcp", "the second worker", "--second-worker-port")


def _check_port(port: int, protocol: str, who: str, option: str, host: str = HOST) -> None:
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as probe:
        if protocol == "tcp":
            # As the servers do: a connection of an earlier run in TIME_WAIT is no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
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
