"""What a job's pod is told, and the objects that make it; also removes them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from foundation.logs import get_logger
from offloader.backends.environment import check_lengths
from offloader.backends.kubernetes.api import JOBS, SECRETS, ApiError, KubernetesApi
from offloader.backends.kubernetes.files import JobFolders
from offloader.backends.kubernetes.manifest import ca_path, job_manifest, secret_manifests
from offloader.backends.kubernetes.options import LAUNCH, KubernetesOptions, Reference
from offloader.backends.kubernetes.view import ClusterView
from offloader.errors import BackendError, LaunchFailed, WorkloadBusy

_CONFLICT_PAUSES_S: Final = (0.0, 0.2, 0.5, 1.0)

log = get_logger()


class Launcher:
    """Launches jobs, and further attempts on their files, with their folders."""

    def __init__(
        self,
        api: KubernetesApi,
        options: KubernetesOptions,
        *,
        folders: JobFolders,
        view: ClusterView,
    ) -> None:
        self._api = api
        self._options = options
        self._folders = folders
        self._view = view

    async def launch(
        self,
        reference: Reference,
        given: Mapping[str, str],
        *,
        max_duration_s: int = 0,
        command: Sequence[str] = (),
    ) -> None:
        """`given`: the job's own variables; the surroundings' come to them. `command`: instead of the image's
        own work. Raises as `launch` below."""
        options = self._options
        has_map = options.kubernetes.ca_config_map is not None
        ca = None if has_map else await asyncio.to_thread(options.surroundings.read_ca)
        variables = self._variables(reference, given, path=ca_path(options, has_ca=ca is not None))
        await self._view.watched()
        if not reference.salvage and self._view.known_job(reference.name) is not None:
            raise LaunchFailed(f"{reference.name} is there already")
        fresh = False
        if self._folders.hold_files and not reference.salvage:
            fresh = await self._folders.make(reference.job_name)
        owning = self._view.known_job(reference.job_name) if reference.salvage else None
        try:
            job = await launch(
                self._api,
                reference,
                options=options,
                variables=variables,
                ca=ca,
                max_duration_s=max_duration_s,
                command=command,
                owner_uid=owning["metadata"]["uid"] if owning is not None else "",
            )
        except BaseException:
            if fresh:
                await self._folders.remove(reference.job_name)
            raise
        self._view.took(job)

    def _variables(
        self, reference: Reference, given: Mapping[str, str], *, path: str | None
    ) -> Mapping[str, str]:
        """All that its pod is told; `path`: of the CA there."""
        options = self._options
        variables = options.surroundings.variables(given, ca_path=path)
        if options.restricted:  # an image of ours
            variables |= options.surroundings.copies(kept=bool(options.kubernetes.claim))
            variables |= options.surroundings.tracing()
        check_lengths(variables)
        site_url = variables.get("SITE_URL", "")
        own_network = not options.has_host_network(reference.job_type)
        if own_network and options.surroundings.means_the_job_itself(site_url):
            raise LaunchFailed(
                f"the site URL {site_url} means the job's own pod: name a URL that pods reach with "
                f'jobs.site_url_overrides = {{"{site_url}" = "http://…"}}'
            )
        return variables


async def launch(
    api: KubernetesApi,
    reference: Reference,
    *,
    options: KubernetesOptions,
    variables: Mapping[str, str],
    ca: bytes | None,
    max_duration_s: int,
    command: Sequence[str] = (),
    owner_uid: str = "",
) -> dict[str, Any]:
    """Create the Job, suspended, and its Secrets; then let it go. The Job as the server has it.

    Raises:
        LaunchFailed: nothing was started and nothing is left behind.
        WorkloadBusy: nor was it; an attempt of that name is there, of another replica.
        BackendError: nor was it; the server could not be asked just now, and may take it later.
    """
    mark = secrets.token_hex(8)
    job = job_manifest(
        reference,
        options=options,
        max_duration_s=max_duration_s,
        variables=variables,
        has_ca=ca is not None,
        command=command,
        launch=mark,
        owner_uid=owner_uid,
    )

    def is_mine(thing: Mapping[str, Any]) -> bool:
        return (thing["metadata"].get("annotations") or {}).get(LAUNCH) == mark

    try:
        made = await api.create(JOBS, job, is_mine=is_mine)
    except ApiError as error:
        if not error.status:
            # No answer at all: it may be there all the same.
            await _clean_up(api, reference.name, is_mine)
        if error.passing:
            raise
        if error.status == 409 and reference.salvage:  # another replica was faster
            raise WorkloadBusy(str(error)) from error
        raise LaunchFailed(str(error)) from error
    uid = made["metadata"]["uid"]
    try:
        for secret in secret_manifests(
            reference, variables=variables, ca=ca, owner_uid=uid, options=options
        ):
            await _create_secret(api, secret)
        started = await api.patch(JOBS, reference.name, {"spec": {"suspend": False}})
        if started is None:
            raise LaunchFailed(f"{reference.name} was removed while it was launched")
    except BaseException as error:
        try:
            await delete_job(api, made)
        except BackendError as failure:
            # It is suspended still, or an orphan that ends with its call.
            log.error("job.not_cleaned_up", job=reference.name, error=str(failure))
        if isinstance(error, ApiError) and not error.passing:
            raise LaunchFailed(str(error)) from error
        raise
    return started


async def delete_job(api: KubernetesApi, job: Mapping[str, Any]) -> None:
    """The Job; its pod and Secrets go with it, and so do salvages."""
    meta = job["metadata"]
    options = {"propagationPolicy": "Background", "preconditions": {"uid": meta["uid"]}}
    try:
        await api.delete(JOBS, meta["name"], options)
    except ApiError as error:
        if error.status != 409:  # another one under that name
            raise


async def _create_secret(api: KubernetesApi, secret: Mapping[str, Any]) -> None:
    """One of that name is of an attempt whose answer was lost, for the Job is new: the service need not, and
    in its Role cannot, read what it holds."""
    for pause_s in (*_CONFLICT_PAUSES_S, None):
        try:
            await api.create(SECRETS, secret)
            return
        except ApiError as error:
            if error.status != 409 or pause_s is None:
                raise
            await api.delete(SECRETS, secret["metadata"]["name"], {})
            await asyncio.sleep(pause_s)  # it may have been a quota that others changed too


async def _clean_up(api: KubernetesApi, name: str, is_mine: Any) -> None:
    """As far as it goes: an unreachable server cannot be told; what stays is suspended, and swept later."""
    try:
        found = await api.get(JOBS, name)
        if found is not None and is_mine(found):
            await delete_job(api, found)
    except BackendError:
        return
