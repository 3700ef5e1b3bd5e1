"""Everything that can go wrong in the job service, in one tree.

    OffloaderError
    ├── InvalidJob            the client asked for something that cannot be (its text is the wire's)
    ├── JobNotFound           no such job, or not this client's
    ├── JobIsRunning          only a finished job can be deleted
    ├── InvalidCursor         a listing is to go on from a place that does not exist
    ├── IdempotencyMismatch   an Idempotency-Key was used again for another request
    ├── JobIsStarting         its launch is under way: it cannot be told anything yet
    ├── TooManyListeners      nobody more can follow events now
    ├── ArtifactNotFound      the job left no such file
    ├── NothingToPublish      the job left no result that waits for publication
    ├── CreationFailed        the job was fine, but it was not started; `reason` is what an admin reads
    │   ├── CapacityReached   too many calls are in progress
    │   └── DiskTooFull       no room for what the job may write
    ├── IllegalTransition     a bug: a job cannot go from one state to the other
    ├── StoreError            the database cannot be used
    └── BackendError          the backend could not do what it was asked
        └── LaunchFailed      a workload was not started

The configuration has `foundation.layered_config.ConfigError`, authentication `clientauth`'s errors.
"""

from __future__ import annotations


class OffloaderError(Exception):
    """Root of the tree."""


class InvalidJob(OffloaderError):
    """A job or init request that is refused; the text is what the client sees."""


class JobNotFound(OffloaderError):
    """No such job, or one of another client: the two look the same from outside."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"no job {job_id}")
        self.job_id = job_id


class JobIsRunning(OffloaderError):
    """The job has not finished, so its record cannot be deleted."""


class NothingToPublish(OffloaderError):
    """The job runs, or everything it made is published."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} has no result that waits for publication")


class IdempotencyMismatch(OffloaderError):
    """The earlier request with this key asked for another job."""

    def __init__(self) -> None:
        super().__init__("this Idempotency-Key was used for a different job: use a new key")


class JobIsStarting(OffloaderError):
    """The backend is being told to launch it; a moment later it can be stopped."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} is just being launched: try again in a few seconds")


class TooManyListeners(OffloaderError):
    """As many clients as may follow events do, or the service is ending."""

    def __init__(self) -> None:
        super().__init__("nobody more can listen to events now: try again later, or poll GET /jobs")


class ArtifactNotFound(OffloaderError):
    """The job left no file of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no artifact {name!r}")


class InvalidCursor(OffloaderError):
    """The cursor of a listing was not given out by this service."""


class CreationFailed(OffloaderError):
    """The job was not started; the text says why, for the plugin's `err` and the admin."""


class CapacityReached(CreationFailed):
    """`jobs.max_concurrent_jobs` calls are in progress."""

    def __init__(self) -> None:
        super().__init__("max concurrent jobs reached")


class DiskTooFull(CreationFailed):
    """Together with what runs, the job could fill the disk."""

    def __init__(
        self, *, free_bytes: int, reserved_bytes: int, wanted_bytes: int, min_free_bytes: int
    ) -> None:
        def gib(size: int) -> str:
            return f"{size / 2**30:.1f} GiB"

        super().__init__(
            f"not enough disk: {gib(free_bytes)} are free, running jobs may still write "
            f"{gib(reserved_bytes)}, this one {gib(wanted_bytes)}, and {gib(min_free_bytes)} "
            "have to stay free (jobs.min_free_disk)"
        )


class IllegalTransition(OffloaderError):
    """Somebody tried to move a job to a state that does not follow from its present one."""


class StoreError(OffloaderError):
    """The database cannot be opened or used; the text names it."""


class BackendError(OffloaderError):
    """The backend could not do what it was asked; the text names the workload and the cause."""


class LaunchFailed(BackendError):
    """Nothing was started, and nothing was left behind."""
