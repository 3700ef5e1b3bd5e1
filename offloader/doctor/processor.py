"""Step `cpu`: what the processor can, and how much of it this service and its jobs have."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from offloader.capacity_auto import read_machine
from offloader.doctor.finding import Finding, note, ok, skipped, warning
from offloader.doctor.machine import size
from offloader.doctor.step import Context, Step, aside

_X86: Final = ("sse4_1", "avx", "avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
_ARM: Final = ("asimd", "asimddp", "i8mm", "sve")
_WHAT: Final = "processor"


async def look(context: Context) -> Sequence[Finding]:
    """Reads /proc and /sys."""
    return await aside(lambda: list(_look(context)))


def _look(context: Context) -> Iterator[Finding]:
    yield judge_features(_read(context.root / "proc/cpuinfo"), platform.machine())
    yield from _amount(context)
    yield from _pace(context)


def judge_features(cpuinfo: str, machine: str) -> Finding:
    """What speech models and x264 compute with. `machine`: as uname tells it."""
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    flags = set(found[1].split()) if found else set()
    name = re.search(r"^model name\s*:\s*(.*)$", cpuinfo, re.MULTILINE)
    shown = name[1].strip() if name else machine
    known = _ARM if machine in ("aarch64", "arm64") else _X86
    have = [flag for flag in known if flag in flags]
    if not flags:
        return skipped("cpu_unknown", _WHAT, f"{machine}: its features are not told here")
    data = {"model": shown, "features": have, "machine": machine}
    value = f"{shown}: {', '.join(have) or 'none of ' + ', '.join(known)}"
    if known is _ARM:
        if "asimd" not in flags:
            return warning(
                "cpu_no_neon",
                _WHAT,
                value,
                cause="without NEON speech models and video are several times slower",
                fix=("a host with an ARMv8 processor or newer",),
                data=data,
            )
        return ok("cpu_features", _WHAT, value, data=data)
    if "avx2" not in flags:
        return warning(
            "cpu_no_avx2",
            _WHAT,
            value,
            cause="without AVX2 speech models and video are two to four times slower",
            fix=(
                "in a virtual machine: CPU type `host` instead of a generic one (qemu: -cpu host)",
            ),
            data=data,
        )
    return ok("cpu_features", _WHAT, value, data=data)


def _amount(context: Context) -> Iterator[Finding]:
    own = context.backend == "process"
    mine = read_machine(own_limits=own, root=context.root)
    whole = read_machine(own_limits=False, root=context.root)
    data = {"cores": mine.cores, "memory_bytes": mine.memory_bytes}
    value = f"{mine.cores:g} cores, {size(mine.memory_bytes)}"
    if mine.cores < whole.cores or mine.memory_bytes < whole.memory_bytes:
        yield note(
            "cpu_limited",
            "cores and memory",
            f"{value} of {whole.cores:g} and {size(whole.memory_bytes)}",
            cause="a control group or CPU affinity limits this shell, and perhaps the service alike",
            fix=("systemctl show calls-offloader -p CPUQuotaPerSecUSec -p MemoryMax",),
            data=data,
        )
    elif mine.cores < 2:
        yield warning(
            "cpu_one_core",
            "cores and memory",
            value,
            cause="one core bears recordings, but no live captions beside them",
            fix=("two cores or more",),
            data=data,
        )
    else:
        yield ok("cpu_amount", "cores and memory", value, data=data)


def _pace(context: Context) -> Iterator[Finding]:
    governor = _read(context.root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip()
    if governor == "powersave" and "intel_pstate" not in _driver(context.root):
        yield note(
            "cpu_powersave",
            "clock rate",
            governor,
            cause="the slowest clock rate: captions come later than they could",
            fix=("sudo cpupower frequency-set -g schedutil",),
        )
    cores = os.cpu_count() or 1
    load = _read(context.root / "proc/loadavg").split()
    busy = float(load[1]) if len(load) > 1 else 0.0
    if busy > cores:
        yield note(
            "cpu_busy",
            "load of the last five minutes",
            f"{busy:g} on {cores} cores",
            cause="others compute here: what is measured now is less than the host can",
            fix=("uptime; top", "run the doctor again when it is quiet"),
            data={"load": busy},
        )


def _driver(root: Path) -> str:
    return _read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


CPU: Final = Step("cpu", "Processor", look)
