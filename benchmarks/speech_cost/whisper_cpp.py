"""whisper.cpp from PyPI, in a process and a virtual environment of its own."""

from __future__ import annotations

import json
import subprocess
import venv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.job_environment import without_thread_limits

PACKAGE = "pywhispercpp==1.5.1"
_PLACE = Path(__file__).parents[2] / ".cache" / "whisper-cpp"
_CHILD = """
import json, sys, time
import numpy as np
from pywhispercpp.model import Model
model = Model(
    sys.argv[1], n_threads=int(sys.argv[3]), language="en", greedy={"best_of": 1}, temperature_inc=0.0,
    no_timestamps=True, single_segment=True, no_context=True, print_progress=False,
    redirect_whispercpp_logs_to=None,
)
audio = np.load(sys.argv[2])
print("ready", flush=True)
for _ in sys.stdin:
    begin_s = time.perf_counter()
    segments = model.transcribe(audio)
    words = sum(len(segment.text.split()) for segment in segments)
    print(json.dumps([time.perf_counter() - begin_s, words]), flush=True)
"""


class WhisperCpp:
    """One loaded model: f16, greedy, one window, no fall-back, the text without timestamps."""

    def __init__(self, model: Path, audio: NDArray[np.float32], *, threads: int) -> None:
        """Installs the package when it is not there.

        Raises:
            RuntimeError: it cannot be installed, or does not load this model.
        """
        python = _PLACE / "bin" / "python"
        if not python.exists():
            venv.create(_PLACE, with_pip=True)
        installed = subprocess.run(
            [python, "-m", "pip", "install", "-q", PACKAGE], capture_output=True, text=True
        )
        if installed.returncode:
            raise RuntimeError(f"cannot install {PACKAGE}: {installed.stderr.strip()[-300:]}")
        np.save(_PLACE / "audio.npy", audio)
        command: list[str | Path] = [
            python,
            "-c",
            _CHILD,
            model,
            _PLACE / "audio.npy",
            str(threads),
        ]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=without_thread_limits(),
        )
        self._line("ready")

    def track(self) -> tuple[float, int]:
        """(seconds, words) of one window."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        seconds, words = json.loads(self._line("["))
        return float(seconds), int(words)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _line(self, begin: str) -> str:
        """The next one that begins so: the library writes to standard output too."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            text = line.decode(errors="replace")
            if text.startswith(begin):
                return text
        raise RuntimeError(f"whisper.cpp ended with code {self._process.wait()}")
