"""Where the API server is, who the service is to it, and in which namespace it works."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from offloader.errors import BackendError

_OWN_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_MOST_CONNECTIONS: Final = 2000
"""Each job that runs has one open for its log."""


@dataclass(frozen=True, slots=True)
class Connection:
    """What is known before the first request."""

    kubeconfig: str
    """A path; empty: where the official client looks."""
    in_cluster: bool
    """By the pod's service account."""
    namespace: str
    """Empty: the pod's own, or that of the kubeconfig's context."""

    async def open(self) -> tuple[Any, str]:
        """The official client, which connects with its first request, and the namespace.

        Raises:
            BackendError: kubeconfig, service account or certificates cannot be used.
        """
        # Hundreds of generated modules: not on the event loop, and only where jobs run this way.
        await asyncio.to_thread(_import_client)
        import yaml
        from kubernetes_asyncio import client, config

        settings = client.Configuration()
        unusable = (config.ConfigException, yaml.YAMLError, OSError, ValueError, TypeError)
        loading: Any = config  # partly without types
        try:
            if self.in_cluster:
                loading.load_incluster_config(client_configuration=settings)
            else:
                path = self.kubeconfig or None
                await config.load_kube_config(config_file=path, client_configuration=settings)
        except unusable as error:
            wanted = "the pod's service account" if self.in_cluster else "the kubeconfig"
            raise BackendError(f"Kubernetes: {wanted} cannot be used: {error}") from error
        namespace = self.namespace or await asyncio.to_thread(self._find_namespace)
        settings.connection_pool_maxsize = _MOST_CONNECTIONS
        try:
            made = client.ApiClient(settings)
        except (OSError, ssl.SSLError) as error:
            raise BackendError(f"Kubernetes: certificates cannot be read: {error}") from error
        made.user_agent = "calls-offloader"
        return made, namespace

    def _find_namespace(self) -> str:
        with suppress(OSError):
            if self.in_cluster:
                return _OWN_NAMESPACE.read_text(encoding="ascii").strip()
        if not self.in_cluster:
            from kubernetes_asyncio import config

            path = self.kubeconfig or None
            _, active = config.list_kube_config_contexts(config_file=path)
            named = (active or {}).get("context", {}).get("namespace")
            if named:
                return str(named)
        return "default"


def _import_client() -> None:
    import kubernetes_asyncio.client
    import kubernetes_asyncio.config  # noqa: F401 - so that the import on the loop finds it done
