"""What a backend can have besides the port: it takes over settings while it runs."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from offloader.settings import JobsSettings


@runtime_checkable
class Retuned(Protocol):
    """A backend that takes over settings of jobs while it runs."""

    def retune(self, jobs: JobsSettings) -> None:
        """From now on, jobs are launched by these."""

    def trust(self, ca: bytes) -> None:
        """The content of jobs.ca_cert_file, from now on."""
