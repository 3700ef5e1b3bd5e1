"""Step `disk`: where jobs write: room, kind, speed and fsync, against what recordings need."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from offloader.doctor.docker import not_here
from offloader.doctor.finding import Finding, failure, ok, skipped, warning
from offloader.doctor.machine import existing, mount_of, of_another_user, owner_of, size, user_name
from offloader.doctor.step import Context, Step, aside

_WHAT: Final = "jobs.process.jobs_dir"
_WRITE_BYTES: Final = 64 << 20
_BLOCK_BYTES: Final = 1 << 20
_SYNCED_BLOCKS: Final = 16
_WRITE_S: Final = 10.0
_SYNCS: Final = 20
_CALL_BYTES_PER_S: Final = 400_000
"""2500 kbit/s of a `high` recording with its sound, and captures of voices (docs/scaling.md)."""
_END_FACTOR: Final = 10
"""At its end a recording is written once more, in seconds instead of an hour."""
_SLOW_SYNC_S: Final = 0.25
_HOUR_BYTES: Final = 450 << 20
"""225 MB an hour with cameras, twice that for a moment at its end (docs/scaling.md)."""
_FEW_INODES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Speed:
    """As measured."""

    bytes_per_s: float
    sync_s: float
    """The second longest of twenty fsyncs of a small file."""


async def look(context: Context) -> Sequence[Finding]:
    """Of process jobs; containers have the engine's disk (step `docker`)."""
    if context.backend != "process":
        return [skipped("disk_elsewhere", _WHAT, not_here(context))]
    return await aside(lambda: list(_look(context)))


def _look(context: Context) -> Iterator[Finding]:
    wanted = context.settings.jobs.process.jobs_dir
    place = existing(wanted)
    if not os.access(place, os.W_OK | os.X_OK, effective_ids=True):
        if of_another_user(place):
            owner = owner_of(place)
            why = f"{place} is {owner}'s: sudo -u {owner} offloader doctor --only disk"
            yield skipped("disk_other_user", _WHAT, why)
            return
        yield failure(
            "disk_unwritable",
            _WHAT,
            f"{place}: not writable for {user_name()}",
            cause="jobs cannot make their directories",
            fix=(f"sudo install -d -m 700 -o calls-offloader {wanted}",),
        )
        return
    yield from _kind(place, context)
    yield from _room(place, context)
    if context.quick:
        yield skipped("disk_speed_quick", "write speed", "--quick")
        return
    try:
        speed = measure(place)
    except OSError as error:
        yield failure(
            "disk_unwritable",
            "write speed",
            f"{place}: {error.strerror}",
            cause="jobs cannot write there: full, over a quota, or broken",
            fix=(f"df -h {place}", f"df -i {place}", "sudo dmesg | tail"),
        )
        return
    yield judge_speed(speed, context.settings.jobs.max_concurrent_jobs or 1)


def _kind(place: Path, context: Context) -> Iterator[Finding]:
    mount = mount_of(place, root=context.root)
    if mount is not None and mount.forgets:
        yield warning(
            "disk_forgets",
            _WHAT,
            f"{place}: {mount.kind}",
            cause="it is memory: unpublished recordings are gone with the next start of the host",
            fix=('jobs.process.jobs_dir = "/var/lib/calls-offloader/jobs"',),
        )


def _room(place: Path, context: Context) -> Iterator[Finding]:
    status = os.statvfs(place)
    free_bytes = status.f_bavail * status.f_frsize
    least = context.settings.jobs.min_free_disk_bytes or 0
    calls = context.settings.jobs.max_concurrent_jobs or 1
    needed = least + calls * _HOUR_BYTES
    hours = max(free_bytes - least, 0) / _HOUR_BYTES
    data = {
        "free_bytes": free_bytes,
        "min_free_disk_bytes": least,
        "recorded_hours": round(hours, 1),
    }
    value = f"{place}: {size(free_bytes)} free, about {hours:.0f} recorded hours"
    if free_bytes < least:
        yield failure(
            "disk_low",
            _WHAT,
            value,
            cause=f"jobs are refused below jobs.min_free_disk ({size(least)})",
            fix=(f"df -h {place}", "offloader status   # results that wait", "a larger disk"),
            data=data,
        )
    elif free_bytes < needed:
        yield warning(
            "disk_tight",
            _WHAT,
            value,
            cause=f"{calls} recordings of an hour need {size(needed)}, jobs.min_free_disk included",
            fix=(f"df -h {place}", "a larger disk"),
            data=data,
        )
    else:
        yield ok("disk_room", _WHAT, value, data=data)
    if 0 < status.f_favail < _FEW_INODES and status.f_files:
        yield warning(
            "disk_inodes",
            _WHAT,
            f"{place}: {status.f_favail} inodes left",
            cause="without them no file can be made, however much room there is",
            fix=(f"df -i {place}",),
        )


def measure(place: Path) -> Speed:
    """Write 64 MiB, on a slow disk less, and small pieces with fsync. Blocks for about a second.

    The files have no names, so nothing is left, whenever this process ends.

    Raises:
        OSError: full, over a quota, broken.
    """
    block = secrets.token_bytes(_BLOCK_BYTES)
    written_bytes, took_s = 0, 0.0
    with tempfile.TemporaryFile(dir=place, buffering=0) as file:
        began_s = time.monotonic()
        while written_bytes < _WRITE_BYTES and took_s < _WRITE_S:
            for _ in range(_SYNCED_BLOCKS):
                written_bytes += file.write(block)
            os.fsync(file.fileno())
            took_s = time.monotonic() - began_s
    syncs = []
    with tempfile.TemporaryFile(dir=place, buffering=0) as file:
        for _ in range(_SYNCS):
            began_s = time.monotonic()
            file.write(block[:4096])
            os.fsync(file.fileno())
            syncs.append(time.monotonic() - began_s)
    return Speed(written_bytes / max(took_s, 1e-6), sorted(syncs)[-2])


def judge_speed(speed: Speed, calls: int) -> Finding:
    """Against what so many recordings write, and write again at their ends."""
    needed = calls * _CALL_BYTES_PER_S * _END_FACTOR
    data = {
        "bytes_per_s": round(speed.bytes_per_s),
        "fsync_s": round(speed.sync_s, 4),
        "needed_bytes_per_s": needed,
    }
    value = f"{size(speed.bytes_per_s)}/s, fsync {speed.sync_s * 1000:.0f} ms"
    if speed.bytes_per_s < needed:
        return warning(
            "disk_slow",
            "write speed",
            value,
            cause=f"{calls} recordings and their ends want {size(needed)}/s",
            fix=("a faster disk", f"jobs.max_concurrent_jobs below {calls}"),
            data=data,
        )
    if speed.sync_s > _SLOW_SYNC_S:
        return warning(
            "disk_slow_sync",
            "write speed",
            value,
            cause="every admitted job waits for the disk: the plugin's minute gets short",
            fix=("a disk that is not shared with a busy neighbour", "iostat -x 1"),
            data=data,
        )
    return ok("disk_speed", "write speed", value, data=data)


DISK: Final = Step("disk", "Disk of the jobs", look, timeout_s=60)
