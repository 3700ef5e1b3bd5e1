"""Takes every system call from this process but those that computing and one open socket need (seccomp(2)).

An allow-list: no file can be opened, not even for reading, no socket made, nothing executed, no process or
thread started, signalled, traced or read; no memory becomes executable. What is not allowed fails with EPERM.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from typing import Final

_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP: Final = 22
_MODE_FILTER: Final = 2
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | errno.EPERM
_KILL: Final = 0x80000000
_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_IF_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_IF_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_IF_ANY_BIT: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K
_AT_NUMBER: Final = 0
_AT_ARCHITECTURE: Final = 4
_AT_THIRD_ARGUMENT: Final = 32
"""Its lower half, on little-endian machines (struct seccomp_data)."""
_PROT_EXEC: Final = 4
_X32: Final = 0x40000000
"""Another way to count system calls, on x86-64 only."""

_ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""By `uname -m`: AUDIT_ARCH_*."""
_MEMORY: Final = {"mmap": (9, 222), "mprotect": (10, 226)}
"""Their third argument is the protection."""
_ALLOWED: Final = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "poll": (7, None),
    "ppoll": (271, 73),
    "lseek": (8, 62),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "brk": (12, 214),
    "madvise": (28, 233),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    # Of one of these, when this process was stopped in it: SIGSTOP and SIGCONT, a freezer.
    "restart_syscall": (219, 128),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "futex": (202, 98),
    "setitimer": (38, 103),
    "clock_gettime": (228, 113),
    "clock_nanosleep": (230, 115),
    "gettimeofday": (96, 169),
    "getrandom": (318, 278),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
"""Numbers on x86-64 (asm/unistd_64.h) and on aarch64 (asm-generic/unistd.h)."""
_COLUMNS: Final = {"x86_64": 0, "aarch64": 1}


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction)))


def forbid_new_privileges() -> None:
    """For this process and what it starts. Raises OSError: the kernel refuses."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def forbid_system_calls() -> None:
    """From now on, for good; after `forbid_new_privileges`. All that is needed must be loaded and open.

    Raises:
        OSError: the kernel refuses, or the machine is neither x86-64 nor aarch64.
    """
    program = filter_program(platform.machine())
    instructions = (_Instruction * len(program))(*(_Instruction(*line) for line in program))
    _prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(_Program(len(program), instructions)))


def filter_program(machine: str) -> list[tuple[int, int, int, int]]:
    """Code, jump if true, jump if false, value of each instruction, for `uname -m`'s name of the machine.

    Raises:
        OSError: no such machine is known here.
    """
    if machine not in _COLUMNS:
        raise OSError(errno.ENOSYS, f"no system calls are known of {machine}")
    column = _COLUMNS[machine]
    memory = [numbers[column] for numbers in _MEMORY.values()]
    allowed = [number for numbers in _ALLOWED.values() if (number := numbers[column]) is not None]
    program = [
        (_LOAD, 0, 0, _AT_ARCHITECTURE),
        (_IF_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _AT_NUMBER),
    ]
    if machine == "x86_64":
        program += [(_IF_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _KILL)]
    for number in memory:
        program += [
            (_IF_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, _AT_THIRD_ARGUMENT),
            (_IF_ANY_BIT, 0, 1, _PROT_EXEC),
            (_RETURN, 0, 0, _REFUSE),
            (_RETURN, 0, 0, _ALLOW),
        ]
    program += [
        (_IF_EQUAL, len(allowed) - place, 0, number) for place, number in enumerate(allowed)
    ]
    program += [(_RETURN, 0, 0, _REFUSE), (_RETURN, 0, 0, _ALLOW)]
    return program


def _prctl(option: int, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    values = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments]
    values += [ctypes.c_ulong(0)] * (4 - len(values))
    if libc.prctl(ctypes.c_int(option), *values) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
