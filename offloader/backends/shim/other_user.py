"""Starts a program as another user: without the groups, capabilities and ways back of this one."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_INHERITED_HANDLERS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
_IGNORED_HERE = (signal.SIGPIPE, signal.SIGHUP, signal.SIGXFSZ)


def spawn_as(uid: int, gid: int, command: list[str], *, output_fd: int, nice: int = 0) -> int:
    """The process ID of `command`, which has this environment, and a process group of its own.

    posix_spawn(3) cannot change users. This process has one thread, so that a fork is safe.

    Raises:
        OSError: it cannot be started, or not as that user.
    """
    library = ctypes.CDLL(None, use_errno=True)
    told_fd, tell_fd = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        try:
            _become(library, uid, gid, output_fd, nice)
            os.execvp(command[0], command)  # nosec B606  # a list of arguments, as the shim has it
        except OSError as error:
            os.write(tell_fd, str(error.errno or 0).encode())
        finally:
            os._exit(127)
    os.close(tell_fd)
    with os.fdopen(told_fd, "rb") as told:
        number = told.read()  # ends when the program has begun
    if number:
        os.waitpid(child, 0)
        raise OSError(int(number), os.strerror(int(number)))
    return child


def _become(library: ctypes.CDLL, uid: int, gid: int, output_fd: int, nice: int) -> None:
    os.setpgid(0, 0)
    null_fd = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null_fd, 0)
    os.dup2(output_fd, 1)
    os.dup2(output_fd, 2)
    if nice:  # less than what it has already is not for everybody to give
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    # Of a user who is not root: change of user leaves these, and a program inherits them.
    _prctl(library, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _prctl(library, _PR_SET_NO_NEW_PRIVS, 1)
    for number in (*_INHERITED_HANDLERS, *_IGNORED_HERE):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _prctl(library: ctypes.CDLL, option: int, value: int) -> None:
    if library.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
