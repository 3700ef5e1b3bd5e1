"""What becomes of the jobs that the offloader's docker backend starts: the engine tells, by their labels.

Their logs are copied to files, so that whoever reads a process job's log reads theirs in the same way.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import docker

from testbed.job_watch import NAMES, JobProcess, log_events

_INSTANCE_LABEL: Final = "calls-offloader.instance"
_TYPE_LABEL: Final = "calls-offloader.job-type"
_JOB_LABEL: Final = "calls-offloader.job-id"
_SALVAGE_LABEL: Final = "calls-offloader.salvage"


class EngineMissing(Exception):
    """No Docker Engine answers."""


class ContainerWatch:
    """The containers of one offloader. Everything but `jobs` blocks."""

    def __init__(self, *, instance: str, directory: Path) -> None:
        """`instance`: its `jobs.docker.instance`; logs go into `directory`.

        Raises:
            EngineMissing: no engine answers.
        """
        try:
            self._client = docker.APIClient(version="auto", **docker.utils.kwargs_from_env())
        except docker.errors.DockerException as error:
            raise EngineMissing(
                "no Docker Engine answers: install docker.io and start dockerd"
            ) from error
        self._filters = {"label": [f"{_INSTANCE_LABEL}={instance}"]}
        self._directory = directory
        self._jobs: list[JobProcess] = []

    @property
    def jobs(self) -> list[JobProcess]:
        """In order of their start, as of the last `refresh`."""
        return list(self._jobs)

    def refresh(self) -> None:
        """Look at all of them, and copy their logs."""
        listed = self._client.containers(all=True, filters=self._filters)
        seen: list[tuple[str, JobProcess]] = []
        for entry in listed:
            if _SALVAGE_LABEL in entry["Labels"]:
                continue
            with contextlib.suppress(docker.errors.NotFound):
                details = self._client.inspect_container(entry["Id"])
                seen.append((details["Created"], self._job(entry["Labels"], details)))
        self._jobs = [job for _, job in sorted(seen, key=lambda item: item[0])]

    def remove_all(self) -> None:
        """Containers and volumes; running ones are killed."""
        for entry in self._client.containers(all=True, filters=self._filters):
            with contextlib.suppress(docker.errors.NotFound):
                self._client.remove_container(entry["Id"], force=True)
        for volume in self._client.volumes(filters=self._filters)["Volumes"] or []:
            with contextlib.suppress(docker.errors.NotFound):
                self._client.remove_volume(volume["Name"])

    def close(self) -> None:
        self._client.close()

    def missing_images(self, names: list[str]) -> list[str]:
        """Those that are not on the engine."""
        missing = []
        for name in names:
            try:
                self._client.inspect_image(name)
            except docker.errors.NotFound:
                missing.append(name)
        return missing

    def _job(self, labels: Mapping[str, str], details: Mapping[str, Any]) -> JobProcess:
        directory = self._directory / details["Id"][:12]
        directory.mkdir(parents=True, exist_ok=True)
        ended = details["State"]["Status"] in ("exited", "dead")
        with tempfile.NamedTemporaryFile(dir=directory, delete=False) as file:
            file.write(self._client.logs(details["Id"]))
        Path(file.name).replace(directory / "job.log")
        job = JobProcess(
            NAMES[labels[_TYPE_LABEL]], directory, None, None, labels.get(_JOB_LABEL, "")
        )
        if not ended:
            return job
        ending = {"exit_code": details["State"]["ExitCode"], **_last_figures(job)}
        return replace(job, exit=ending)


def _last_figures(job: JobProcess) -> dict[str, float]:
    """What the job itself said at its end, under the names of `exit.json`."""
    last: dict[str, Any] = {}
    for record in log_events(job, "metrics"):
        last = record
    return {
        "total_cpu_s": float(last.get("cpu_s", 0)),
        "max_rss_bytes": float(last.get("peak_rss_bytes", 0)),
    }
