"""Where the local engine computes: a CUDA device when there is one that works, else the processor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

AUTOMATIC: Final = "auto"
COMPUTE_TYPES: Final = (AUTOMATIC, "int8", "int8_float16", "float16", "float32")


def candidates(compute_type: str) -> Iterator[tuple[str, str]]:
    """(device, compute type), the best first; the last one is always the processor.

    The processor knows no 16-bit floats: there int8 stands in for them.
    """
    import ctranslate2

    if ctranslate2.get_cuda_device_count() > 0:
        known = ctranslate2.get_supported_compute_types("cuda")
        wanted = ("float16", "int8") if compute_type == AUTOMATIC else (compute_type,)
        for choice in (*wanted, "float32"):
            if choice in known:
                yield "cuda", choice
                break
    yield "cpu", "float32" if compute_type == "float32" else "int8"
