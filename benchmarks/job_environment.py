"""What the image and the process backend put into a job's environment, for benchmarks that run its code.

It has to be there before the process begins: glibc and BLAS read it when they are loaded. Without it BLAS
spins on a second core beside the model (mel spectra then take twice the time), and the encoder's buffers
cost a page fault per 4 KiB.
"""

from __future__ import annotations

import os
import sys
from typing import Final

JOB_ENVIRONMENT: Final = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


def run_as_a_job() -> None:
    """Start this program anew, unless it has that environment. Call it first."""
    if any(os.environ.get(name) != value for name, value in JOB_ENVIRONMENT.items()):
        os.execve(sys.executable, sys.orig_argv, os.environ | JOB_ENVIRONMENT)


def without_thread_limits() -> dict[str, str]:
    """For other programs: huge pages as for ours, but threads as they choose."""
    return {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
