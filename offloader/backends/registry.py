"""From `jobs.api_type` to a backend; its module is imported only when it is chosen."""

from __future__ import annotations

from collections.abc import Mapping

from foundation.layered_config import ConfigError
from offloader.backends.base import Backend
from offloader.backends.surroundings import Surroundings
from offloader.settings import JobsSettings
from offloader.store.secret_key import Cipher


def create_backend(
    settings: JobsSettings, *, environ: Mapping[str, str], cipher: Cipher | None = None
) -> Backend:
    """The backend that the settings name; celery's shares the secrets of `cipher` with its workers.

    Raises:
        ConfigError: there is no such backend, or not in this place.
        BackendError: it cannot be used as the settings say.
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
        case "kubernetes":
            from offloader.backends.kubernetes.backend import KubernetesBackend
            from offloader.backends.kubernetes.options import KubernetesOptions

            return KubernetesBackend(KubernetesOptions.of(settings), environ=environ)
        case "celery" if cipher is not None:
            from offloader.backends.celery.backend import CeleryBackend
            from offloader.backends.celery.options import CeleryOptions

            return CeleryBackend(CeleryOptions.of(settings), cipher=cipher)
        case other:
            raise ConfigError(
                f'jobs.api_type = "{other}": jobs cannot be run that way here; '
                'use jobs.api_type = "process" (JOBS_APITYPE=process)'
            )
