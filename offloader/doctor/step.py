"""A step of the examination: a name, and a look at one part of the installation."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from offloader.doctor.finding import Finding
from offloader.settings import Reading, Settings

DEFAULT_TIMEOUT_S: Final = 15.0

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Context:
    """What every step may look at."""

    config_path: Path
    reading: Reading
    """Its `settings` are of use only where it has no problems; steps with `needs_settings` run only then."""
    environ: Mapping[str, str] = field(repr=False)
    site_url: str = ""
    """Of the Mattermost server, without a slash at its end; empty: not given."""
    token: str = field(default="", repr=False)
    """A Mattermost token for that server; empty: not given. Never in a finding."""
    ca_file: Path | None = None
    """PEM file of the authority behind `site_url`: `--ca-cert`, else `jobs.ca_cert_file`."""
    rtcd_url: str = field(default="", repr=False)
    """`http(s)://[client id:auth key@]host:port` of the SFU's API; empty: not given."""
    channel: str = ""
    """Id of the channel in which an upload may be tried; empty: not given."""
    worker: bool = False
    """This host runs `offloader worker`: its jobs are looked at, as `worker.api_type` says."""
    quick: bool = False
    """Leave out what takes longer than a second, such as measurements."""
    root: Path = Path("/")
    """Where `proc` and `sys` are."""

    @property
    def settings(self) -> Settings:
        return self.reading.settings

    @property
    def backend(self) -> str:
        """What runs jobs on or from this host: a value of `jobs.api_type`."""
        settings = self.settings
        return settings.worker.api_type if self.worker else settings.jobs.api_type

    @property
    def brokered(self) -> bool:
        """Service and workers meet at a broker."""
        return self.worker or self.settings.jobs.api_type == "celery"


Look = Callable[[Context], Awaitable[Sequence[Finding]]]


@dataclass(frozen=True, slots=True)
class Step:
    """One part of the installation."""

    name: str
    """For `--only` and `--skip`: small letters and dashes."""
    title: str
    look: Look
    """May raise anything and hang: either becomes a finding of its own."""
    timeout_s: float = DEFAULT_TIMEOUT_S
    needs_settings: bool = True
    """Skipped where the configuration cannot be used."""


async def aside(function: Callable[[], Value]) -> Value:
    """Run what blocks in a thread that nobody waits for at the end: it may hang for ever.

    (`asyncio.to_thread` would keep the whole process from ending then.)
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Value] = loop.create_future()

    def settle(outcome: Callable[[], None]) -> None:
        if not done.done():
            outcome()

    def tell(outcome: Callable[[], None]) -> None:
        try:
            loop.call_soon_threadsafe(settle, outcome)
        except RuntimeError:
            return  # the loop is closed: nobody wants to know any more

    def work() -> None:
        try:
            value = function()
        except BaseException as error:  # noqa: BLE001 - handed to whoever awaits it
            failed = error
            tell(lambda: done.set_exception(failed))
        else:
            tell(lambda: done.set_result(value))

    threading.Thread(target=work, name="doctor", daemon=True).start()
    return await done
