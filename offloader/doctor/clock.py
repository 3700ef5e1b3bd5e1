"""Step `clock`: is this host's clock kept right. Asks the kernel, no network."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from offloader.doctor.finding import Finding, failure, note, ok, skipped, warning
from offloader.doctor.machine import output_of
from offloader.doctor.step import Context, Step, aside

_STA_UNSYNC: Final = 0x40
_TIME_ERROR: Final = 5
_RELEASED_S: Final = 1_767_225_600
"""2026-01-01: a clock before the release is wrong, whatever the kernel thinks."""
_INEXACT_S: Final = 0.5
_FIX: Final = ("sudo apt install systemd-timesyncd", "sudo timedatectl set-ntp true", "timedatectl")


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2) on 64-bit Linux, as far as it is read; the rest is room."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("room", ctypes.c_char * 256),
    )


@dataclass(frozen=True, slots=True)
class KernelClock:
    """What the kernel knows of its clock."""

    synchronised: bool
    error_s: float
    """At most, as whoever keeps it right reckons."""


def read_kernel_clock() -> KernelClock | None:
    """By adjtimex(2), which changes nothing; None: this system does not tell."""
    timex = _Timex()
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    synchronised = state != _TIME_ERROR and not timex.status & _STA_UNSYNC
    return KernelClock(synchronised, timex.maxerror / 1e6)


async def look(context: Context) -> Sequence[Finding]:
    """Synchronised or not, by the kernel, else by timedatectl."""
    return [await aside(lambda: judge(now_s=time.time(), read=read_kernel_clock))]


def judge(*, now_s: float, read: Callable[[], KernelClock | None]) -> Finding:
    """The verdict on a clock that says `now_s`."""
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s))
    if now_s < _RELEASED_S:
        return failure(
            "clock_wrong",
            "clock",
            shown,
            cause="before this release was made: TLS certificates and tokens are not valid yet",
            fix=_FIX,
        )
    clock = read()
    if clock is None:
        told = output_of(("timedatectl", "show", "--property=NTPSynchronized", "--value"))
        if told is None:
            why = "neither adjtimex nor timedatectl answers here"
            return skipped("clock_unknown", "clock", why, value=shown)
        clock = KernelClock(told.strip() == "yes", 0.0)
    data = {"synchronised": clock.synchronised, "error_s": round(clock.error_s, 6)}
    if clock.synchronised and clock.error_s <= _INEXACT_S:
        return ok("clock_synchronised", "clock", f"{shown}, synchronised", data=data)
    if clock.synchronised:
        return note(
            "clock_inexact",
            "clock",
            f"{shown}, may be {clock.error_s:.1f} s off",
            cause="synchronised, but not lately: its time server may be gone",
            fix=("timedatectl timesync-status", "chronyc tracking"),
            data=data,
        )
    return warning(
        "clock_unsynchronised",
        "clock",
        f"{shown}, not synchronised{_in_container()}",
        cause="deadlines, logs and tokens go by it: a clock that drifts confuses them, and TLS in the end",
        fix=_FIX,
        data=data,
    )


def _in_container() -> str:
    inside = os.path.exists("/.dockerenv") or os.path.exists("/run/.containerenv")
    return " (in a container: the host keeps the clock, look there)" if inside else ""


CLOCK: Final = Step("clock", "Clock of this host", look)
