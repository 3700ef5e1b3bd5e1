"""Jobs that a backend did not launch: of another one, or of a host that is gone (`Backend.rescue`)."""

from __future__ import annotations

from pathlib import Path

from offloader.backends.process_reference import stranger
from offloader.errors import BackendError
from offloader.models import JobType, Workload


def on_its_host(workload: Workload) -> Workload | None:
    """As the host knows it where it is: what a worker's own backend calls it, else the same. None: its worker
    had not told yet.

    Raises:
        BackendError: it is damaged.
    """
    if workload.backend != "celery":
        return workload
    from offloader.backends.celery.reference import Reference  # only where there is such a job

    return Reference.of(workload).local


def as_known_to(name: str, workload: Workload, job_type: JobType) -> Workload:
    """The job of another backend's workload as the backend `name` would have known it.

    Raises:
        BackendError: the workload does not tell the ID of its job.
    """
    reference = workload.reference
    job_id = str(reference.get("job_id") or Path(str(reference.get("directory", ""))).name)
    if not job_id:
        raise BackendError(f"a workload of the {workload.backend} backend does not name its job")
    return stranger_of(name, job_id, job_type)


def stranger_of(name: str, job_id: str, job_type: JobType) -> Workload:
    """A job of which nothing but ID and type are known, as the backend `name` would have known it."""
    if name == "celery":
        return Workload(name, {"job_id": job_id, "worker": "", "url": "", "local": ""})
    if name not in ("docker", "kubernetes"):
        return stranger(job_id)
    reference: dict[str, str | int] = {"job_id": job_id, "job_type": job_type.value}
    return Workload(name, reference | {"image": "", "result": "", "salvage": 0})
