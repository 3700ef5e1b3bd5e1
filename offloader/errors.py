"""Everything that can go wrong in the job service, in one tree.

    OffloaderError
    ├── InvalidJob            the client asked for something that cannot be (its text is the wire's)
    ├── JobNotFound           no such job, or not this client's
    ├── JobIsRunning          only a finished job can be deleted
    ├── JobIsHeld             nor one that somebody holds
    ├── InvalidCursor         a listing is to go on from a place that does not exist
    ├── IdempotencyMismatch   an Idempotency-Key was used again for another request
    ├── JobIsStarting         its launch is under way: it cannot be told anything yet
    ├── TooManyListeners      nobody more can follow events now
    │   ├── ListensTooOften   this client cannot follow them once more
    │   └── AddressListensTooOften  nor can anybody at this address
    ├── ArtifactNotFound      the job left no such file
    ├── NothingToPublish      the job left no result that waits for publication
    ├── NotRetranscribable    the job's audio cannot be transcribed again; the text says why
    ├── CreationFailed        the job was fine, but it was not started; `reason` is what an admin reads
    │   ├── CapacityReached   too many calls are in progress
    │   │   └── ClientIsFull  this client has as many as it may (jobs.client_limits)
    │   ├── DiskTooFull       no room for what the job may write
    │   ├── ClientDiskFull    or no room in its client's share
    │   └── UnpublishedTooMuch  too many results wait to be published
    ├── IllegalTransition     a bug: a job cannot go from one state to the other
    ├── StoreError            the database cannot be used
    └── BackendError          the backend could not do what it was asked
        ├── LaunchFailed      a workload was not started
        │   └── FilesGone     the files that it would have worked on are gone, or out of reach for good
        │       └── FormerBackend  they are where a backend keeps them that is not configured any more
        ├── FilesOutOfReach   everything of a workload was removed but files that nobody can reach now
        └── WorkloadBusy      nor was this one, but only because another one works on its files

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


class JobIsHeld(OffloaderError):
    """Somebody holds the job: nothing of it is removed until it is released."""

    def __init__(self, job_id: str, hold: str) -> None:
        super().__init__(
            f"job {job_id} is held ({hold}): offloader data hold --release lets go of it"
        )


class NothingToPublish(OffloaderError):
    """The job runs, or everything it made is published."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} has no result that waits for publication")


class NotRetranscribable(OffloaderError):
    """The job runs, or kept no audio, or is being transcribed again; the text says which."""


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

    def __init__(self, text: str = "") -> None:
        super().__init__(
            text or "nobody more can listen to events now: try again later, or poll GET /jobs"
        )


class ListensTooOften(TooManyListeners):
    """One client follows events as often as it may."""

    def __init__(self, most: int) -> None:
        super().__init__(
            f"this client listens to events {most} times already (jobs.client_limits.event_streams)"
        )


class AddressListensTooOften(TooManyListeners):
    """One address follows events as often as it may, whatever clients are there."""

    def __init__(self, most: int) -> None:
        super().__init__(
            f"{most} streams of events go to this address already: close some, or poll GET /jobs"
        )


class ArtifactNotFound(OffloaderError):
    """The job left no file of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no artifact {name!r}")


class InvalidCursor(OffloaderError):
    """The cursor of a listing was not given out by this service."""


class CreationFailed(OffloaderError):
    """The job was not started; the text says why, for the plugin's `err` and the admin."""


class CapacityReached(CreationFailed):
    """As many calls are in progress as may be, or as there are places for."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(f"max concurrent jobs reached{': ' if reason else ''}{reason}")


class ClientIsFull(CapacityReached):
    """One client has as many calls in progress, or jobs waiting, as it may; the text says which limit."""


class DiskTooFull(CreationFailed):
    """Together with what runs, the job could fill the disk."""

    def __init__(
        self, *, free_bytes: int, reserved_bytes: int, wanted_bytes: int, min_free_bytes: int
    ) -> None:
        super().__init__(
            f"not enough disk: {_gib(free_bytes)} are free, running jobs may still write "
            f"{_gib(reserved_bytes)}, this one {_gib(wanted_bytes)}, and {_gib(min_free_bytes)} "
            "have to stay free (jobs.min_free_disk)"
        )


class ClientDiskFull(CreationFailed):
    """Together with what its client's other jobs may still write, the job could write too much."""

    def __init__(self, *, reserved_bytes: int, wanted_bytes: int, most_bytes: int) -> None:
        super().__init__(
            f"not enough disk for this client: its running jobs may still write {_gib(reserved_bytes)}, "
            f"this one {_gib(wanted_bytes)}, all together {_gib(most_bytes)} (jobs.client_limits.disk)"
        )


class UnpublishedTooMuch(CreationFailed):
    """So much waits for its publication that one more result might be too much. None is deleted for it."""

    def __init__(self, *, left_bytes: int, quota_bytes: int) -> None:
        super().__init__(
            f"too many unpublished results: {_gib(left_bytes)} wait here, {_gib(quota_bytes)} may "
            "(jobs.unpublished_quota): publish or delete some"
        )


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


class IllegalTransition(OffloaderError):
    """Somebody tried to move a job to a state that does not follow from its present one."""


class StoreError(OffloaderError):
    """The database cannot be opened or used; the text names it."""


class BackendError(OffloaderError):
    """The backend could not do what it was asked; the text names the workload and the cause."""


class LaunchFailed(BackendError):
    """Nothing was started, and nothing was left behind."""


class FilesGone(LaunchFailed):
    """What a job has left is not there any more; a copy of it (`jobs.copies_url`) may be."""


class FormerBackend(FilesGone):
    """What a job has left is where a backend keeps it that is not the configured one, out of reach."""

    def __init__(self, former: str, present: str, why: str = "") -> None:
        super().__init__(
            f"it ran with jobs.api_type = {former!r}, which is {present!r} now, and what it left is out of "
            f"reach{': ' if why else ''}{why}; with the former value it is published"
        )


class FilesOutOfReach(BackendError):
    """Of a workload everything is removed but files where nobody gets at them, at least for now."""


class WorkloadBusy(BackendError):
    """Nothing was started: another workload is at work on the same files, and will end."""
