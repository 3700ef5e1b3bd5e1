"""From `jobs.api_type` to a backend; its module is imported only when it is chosen."""

from __future__ import annotations

from collections.abc import Mapping

from foundation.layered_config import ConfigError
from offloader.backends.base import Backend
from offloader.backends.surroundings import Surroundings
from offloader.settings import JobsSettings


def create_backend(settings: JobsSettings, *, environ: Mapping[str, str]) -> Backend:
    """The backend that the settings name.

    Raises:
        ConfigError: this release has no such backend.
    """
    match settings.api_type:
        case "process":
            from offloader.backends.process import ProcessBackend

            return ProcessBackend(
                settings.process, environ=environ, surroundings=Surroundings(settings.network)
            )
        case "docker":
            from offloader.backends.docker.backend import DockerBackend
            from offloader.backends.docker.options import DockerOptions

            return DockerBackend(DockerOptions.of(settings), environ=environ)
        case other:
            raise ConfigError(
                f'jobs.api_type = "{other}": this release cannot run jobs that way; '
                'use jobs.api_type = "process" (JOBS_APITYPE=process)'
            )
