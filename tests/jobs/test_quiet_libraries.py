"""Libraries that would speak to their makers do not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_PROGRAM = """
from jobs.transcriber.vad import load_silero
load_silero()
import huggingface_hub.constants
print(huggingface_hub.constants.HF_HUB_OFFLINE)
"""


def test_no_telemetry_is_kept_for_sending_and_nothing_is_fetched(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        env={"HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert done.stdout == "True\n"
    # Where telemetry is on, its queue and the machine's identifier lie below .cache/Microsoft.
    assert list(tmp_path.iterdir()) == []
