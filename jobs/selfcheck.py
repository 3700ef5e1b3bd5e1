"""What this installation of the jobs can do, and how fast: one JSON object on standard output.

    python -m jobs.selfcheck facts                          codecs, fonts, speech engine
    python -m jobs.selfcheck encode SECONDS                 CPU of the recorder's encoder on a moving screen
    python -m jobs.selfcheck model DIRECTORY THREADS        CPU and memory of a speech model
    python -m jobs.selfcheck models DIRECTORY               which models there are

For `offloader doctor`, which knows no media itself. What is not installed (each image has one job only) is
left out or named. Exit code 1: what was asked for cannot be done; `error` says why.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

_ENCODERS: Final = ("libx264", "aac")
_DECODERS: Final = ("libopus", "libvpx", "libvpx-vp9", "h264", "libdav1d")
_RATE: Final = 20
_MOST_FRAMES: Final = 2000
_SCROLL_PX: Final = 6


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    try:
        match list(sys.argv[1:] if arguments is None else arguments):
            case ["facts"]:
                found = facts()
            case ["encode", seconds]:
                found = encode(float(seconds))
            case ["model", directory, threads]:
                from jobs.transcriber.engines.speed import measure

                found = measure(Path(directory), threads=int(threads))
            case ["models", directory]:
                found = {"models": models(Path(directory))}
            case _:
                sys.stderr.write(__doc__ or "")
                return 2
    except Exception as error:  # noqa: BLE001 - whatever it is, whoever asked wants to read it
        found = {"error": f"{type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(found) + "\n")
    return int("error" in found)


def facts() -> dict[str, Any]:
    """Versions, codecs by name, fonts, and whether the speech engine loads."""
    found: dict[str, Any] = {"python": platform.python_version(), "machine": platform.machine()}
    found["codecs"] = _codecs()
    try:
        from jobs.recorder.drawing.fonts import missing_parts

        found["fonts_missing"] = [
            {"package": part.package, "effect": part.effect} for part in missing_parts()
        ]
    except ImportError:
        found["fonts_missing"] = None
    found["speech"] = _speech()
    return found


def _codecs() -> dict[str, bool]:
    import av

    known = set(av.codecs_available)
    return {name: name in known for name in (*_ENCODERS, *_DECODERS)}


def _speech() -> dict[str, Any] | None:
    """None: no transcriber is installed here."""
    try:
        import jobs.transcriber  # noqa: F401 - only whether it is there
    except ImportError:
        return None
    try:
        import ctranslate2
        import faster_whisper  # noqa: F401 - only whether it loads
        import onnxruntime  # noqa: F401 - only whether it loads
    except ImportError as error:
        return {"error": str(error)}
    types = sorted(ctranslate2.get_supported_compute_types("cpu"))
    cuda = int(ctranslate2.get_cuda_device_count())
    return {"ctranslate2": str(ctranslate2.__version__), "cpu_types": types, "cuda_devices": cuda}


def encode(seconds: float) -> dict[str, Any]:
    """720p at 20 frames a second, x264 as the plugin's medium quality has it, a page that is scrolled.

    Stops after `seconds`. `cpu_s_per_frame` is CPU of this process, so other load hardly changes it.
    """
    import av
    import numpy as np
    from av.video.codeccontext import VideoCodecContext

    from jobs.recorder.encoders import set_up
    from jobs.recorder.settings import RecorderSettings

    settings = RecorderSettings(
        *("", "", "", "", ""),
        width_px=1280,
        height_px=720,
        frame_rate=_RATE,
        video_preset="veryfast",
    )
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, VideoCodecContext)
    set_up(context, settings)
    page = _page(np.random.default_rng(7))
    until_s = time.monotonic() + seconds
    began_s, frames, size_bytes = time.process_time(), 0, 0
    while time.monotonic() < until_s and frames < _MOST_FRAMES:
        planes = np.full((1080, 1280), 128, dtype=np.uint8)
        top = frames * _SCROLL_PX % (len(page) - 720)
        planes[:720] = page[top : top + 720]
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts = frames * 90_000 // _RATE
        size_bytes += sum(packet.size for packet in context.encode(frame))
        frames += 1
    spent_s = time.process_time() - began_s
    return {
        "frames": frames,
        "cpu_s_per_frame": spent_s / max(frames, 1),
        "cpu_s_per_recorded_s": spent_s / max(frames, 1) * _RATE,
        "bytes": size_bytes,
    }


def _page(random: Any) -> Any:
    """Luma of lines of text, so to speak: 1280 pixels wide, four screens high."""
    import numpy as np

    page = np.full((2880, 1280), 235, dtype=np.uint8)
    for top in range(20, 2860, 24):
        length = int(random.integers(20, 100))
        glyphs = random.integers(0, 2, (14, length * 6), dtype=np.uint8)
        page[top : top + 14, 40 : 40 + length * 12] = np.repeat(235 - 200 * glyphs, 2, axis=1)
    return page


def models(directory: Path) -> list[dict[str, Any]]:
    """Folders with a model that the transcriber finds by name, and their size."""
    return [
        {"name": path.parent.name, "bytes": path.stat().st_size}
        for path in sorted(directory.glob("*/model.bin"))
    ]


if __name__ == "__main__":
    sys.exit(main())
