"""System calls of images that bring a browser: everything but what administers the host.

A browser's sandbox makes user namespaces, which the engine's default profile refuses. So this one names what
is refused; capabilities that most of these calls need are not there either.
"""

from __future__ import annotations

from typing import Any, Final

_REFUSED: Final = (
    # other processes and the kernel's own insides
    *("bpf", "kcmp", "perf_event_open", "process_vm_readv", "process_vm_writev", "ptrace"),
    *("userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register", "lookup_dcookie"),
    # kernel and modules
    *("create_module", "delete_module", "finit_module", "init_module", "query_module"),
    *(
        "kexec_load",
        "kexec_file_load",
        "reboot",
        "iopl",
        "ioperm",
        "nfsservctl",
        "uselib",
        "_sysctl",
    ),
    # mounts and file systems
    *(
        "fsconfig",
        "fsmount",
        "fsopen",
        "fspick",
        "mount",
        "mount_setattr",
        "move_mount",
        "open_tree",
    ),
    *("pivot_root", "swapoff", "swapon", "umount", "umount2", "quotactl", "quotactl_fd"),
    *("open_by_handle_at", "name_to_handle_at", "fanotify_init"),
    # clocks, keys, accounting, terminals
    *("adjtimex", "clock_adjtime", "clock_settime", "settimeofday", "stime"),
    *("add_key", "keyctl", "request_key", "acct", "syslog", "vhangup"),
    *("sethostname", "setdomainname", "personality", "vm86", "vm86old"),
)

BROWSER_PROFILE: Final[dict[str, Any]] = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "archMap": [
        {
            "architecture": "SCMP_ARCH_X86_64",
            "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        },
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    ],
    "syscalls": [{"names": list(_REFUSED), "action": "SCMP_ACT_ERRNO", "errnoRet": 1}],
}
"""As `docker run --security-opt seccomp=FILE` takes it."""
