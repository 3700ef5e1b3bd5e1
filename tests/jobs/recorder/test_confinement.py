"""The decoding process can compute and answer, and nothing else."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.recorder.decoding.seccomp import filter_program
from jobs.recorder.decoding.slots import Slots
from jobs.recorder.decoding.wire import GREETING, QUESTION, Ask, receive

_TRIES = """
import ctypes, json, mmap, os, resource, signal, socket, subprocess, sys, threading, time
from jobs.recorder.decoding import confinement, seccomp
parent, refuse = int(sys.argv[1]), sys.argv[2] == "without seccomp"
if refuse:
    def forbid():
        raise OSError(22, "Invalid argument")
    seccomp.forbid_system_calls = forbid
libc = ctypes.CDLL(None, use_errno=True)
def forked():
    if os.fork() == 0:
        os._exit(0)
def traced():
    if libc.ptrace(16, parent, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "")
tries = {
    "socket": socket.socket,
    "socket pair": socket.socketpair,
    "write a file": lambda: open(sys.argv[3], "wb", buffering=0).write(b"x"),
    "read a file": lambda: open("/etc/hostname"),
    "read the token": lambda: open(f"/proc/{parent}/environ"),
    "execute": lambda: os.execv("/bin/true", ["true"]),
    "start a process": forked,
    "start a thread": lambda: threading.Thread(target=int).start(),
    "signal": lambda: os.kill(parent, 0),
    "trace": traced,
    "memory that is executable": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
    "more memory": lambda: bytearray(3 * 1024**3),
}
refused = confinement.confine(2 * 1024**3)
done = []
for name, attempt in tries.items():
    if refuse and name not in ("write a file", "more memory"):
        continue  # what the limits alone forbid, to root too
    try:
        attempt()
    except (OSError, MemoryError, RuntimeError):
        continue
    done.append(name)
asked = refuse and {
    "core": resource.getrlimit(resource.RLIMIT_CORE),
    "processes": resource.getrlimit(resource.RLIMIT_NPROC),
    "no_new_privs": libc.prctl(39, 0, 0, 0, 0),
}
os.write(1, json.dumps([refused, done, asked]).encode())
os._exit(0)
"""


def confined(mode: str, directory: Path) -> list[object]:
    done = subprocess.run(
        [sys.executable, "-c", _TRIES, str(os.getpid()), mode, str(directory / "written")],
        capture_output=True,
        check=True,
        timeout=20,
    )
    return json.loads(done.stdout)


def test_nothing_can_be_opened_started_signalled_or_executed(tmp_path) -> None:
    refused, done, _ = confined("as it is", tmp_path)
    assert refused == []
    assert done == []
    assert list(tmp_path.iterdir()) == []


def test_a_kernel_without_seccomp_is_named_and_the_limits_hold(tmp_path) -> None:
    refused, done, asked = confined("without seccomp", tmp_path)
    assert refused == ["seccomp: Invalid argument"]
    assert done == []
    assert asked == {"core": [0, 0], "processes": [0, 0], "no_new_privs": 1}


_GOES_IN_CIRCLES = """
import sys
from jobs.recorder.decoding import child
def endless(data):
    while True:
        pass
child.face, child._QUESTION_CPU_S = endless, 0.02
child.main(int(sys.argv[1]), int(sys.argv[2]))
"""


def test_what_goes_in_circles_is_ended_by_the_kernel_also_when_the_recorder_has_gone() -> None:
    ours, theirs = socket.socketpair()
    slots = Slots()
    numbers = (theirs.fileno(), slots.file_number)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", _GOES_IN_CIRCLES, *map(str, numbers)],
            pass_fds=numbers,
            stderr=subprocess.DEVNULL,
        )
    slots.close()
    try:
        with ours:
            ours.settimeout(20)
            (size,) = GREETING.unpack(receive(ours, GREETING.size))
            receive(ours, size)
            ours.sendall(QUESTION.pack(Ask.PICTURE, 1, 0, 0, 1) + b"x")
        assert process.wait(20) == -signal.SIGPROF
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_each_jump_of_the_filter_ends_at_a_verdict(machine: str) -> None:
    program = filter_program(machine)
    for at, (code, if_true, if_false, _) in enumerate(program):
        if code & 0x07 == 0x05:  # a jump
            assert at + 1 + max(if_true, if_false) < len(program)
    assert program[-1] == (0x06, 0, 0, 0x7FFF0000)
    numbers = [line[3] for line in program if line[:3:2] == (0x15, 0)]
    assert len(numbers) == len(set(numbers))


def verdict(machine: str, architecture: int, number: int, third: int = 0) -> int:
    """What the kernel would make of a call."""
    data, at, value = {0: number, 4: architecture, 32: third}, 0, 0
    program = filter_program(machine)
    while True:
        code, if_true, if_false, operand = program[at]
        match code:
            case 0x20:
                value = data[operand]
                jump = 0
            case 0x06:
                return operand
            case _:
                holds = {
                    0x15: value == operand,
                    0x35: value >= operand,
                    0x45: bool(value & operand),
                }[code]
                jump = if_true if holds else if_false
        at += 1 + jump


ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050001, 0x80000000


@pytest.mark.parametrize(
    ("machine", "architecture", "read", "write", "mmap", "refused"),
    [
        # socket, connect, openat, execve, clone, ptrace, kill, bpf
        ("x86_64", 0xC000003E, 0, 1, 9, (41, 42, 257, 2, 59, 56, 435, 101, 62, 321, 425)),
        ("aarch64", 0xC00000B7, 63, 64, 222, (198, 203, 56, 221, 220, 435, 117, 129, 280, 425)),
    ],
)
def test_both_machines_numbers_are_told_apart(
    machine: str, architecture: int, read: int, write: int, mmap: int, refused: tuple[int, ...]
) -> None:
    assert verdict(machine, architecture, read) == verdict(machine, architecture, write) == ALLOW
    assert {verdict(machine, architecture, number) for number in refused} == {REFUSE}
    assert verdict(machine, architecture, mmap, third=3) == ALLOW
    assert verdict(machine, architecture, mmap, third=5) == REFUSE
    assert verdict(machine, 0x40000003, read) == KILL, "32 bits"
    if machine == "x86_64":
        assert verdict(machine, architecture, 0x40000000 | 41) == KILL, "x32"


@pytest.mark.documents("a-machine-whose-system-calls-are-not-known")
def test_an_unknown_machine_is_refused_by_name(documented) -> None:
    with pytest.raises(OSError, match="riscv64") as raised:
        filter_program("riscv64")
    documented("a-machine-whose-system-calls-are-not-known", raised.value.strerror)
