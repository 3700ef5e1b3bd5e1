"""What a job loads before it has joined: nothing heavy, as the call does not wait."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    "numpy",
    "av",
    "PIL",
    "onnxruntime",
    "ctranslate2",
    "faster_whisper",
    "fastapi",
    "opentelemetry",
)


@pytest.mark.parametrize("job", ["recorder", "transcriber"])
def test_nothing_heavy_is_imported_before_the_join(job: str) -> None:
    program = f"""
import json, sys
import jobs.{job}.__main__, jobs.{job}.job
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, timeout=20
    )
    assert json.loads(done.stdout) == []
