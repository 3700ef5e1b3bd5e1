"""Which H.264 encoder a recording begins with: hardware that is wished and proves to work here, else x264.

The proof is made by a process of its own, because drivers hang and crash:

    python -m jobs.recorder.encoder_choice ENCODER WIDTH HEIGHT FRAME_RATE
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Final

from foundation.logs import get_logger
from jobs.recorder.settings import RecorderSettings

X264: Final = "libx264"
HARDWARE: Final = {"nvenc": "h264_nvenc", "qsv": "h264_qsv"}
"""FFmpeg's names by those in `ENCODER`; `auto` tries them in this order."""
_PROBE_TIMEOUT_S: Final = 6.0
"""A driver that is loaded for the first time takes a second or two."""
_FRAMES: Final = 4
_REASON_CHARACTERS: Final = 300
_log = get_logger(component="encoder")


async def choose_encoder(settings: RecorderSettings) -> str:
    """FFmpeg's name of the encoder to begin with; never raises, and takes 6 s at the longest."""
    if settings.encoder == "auto":
        tried: Sequence[str] = tuple(HARDWARE.values())
    elif settings.encoder in HARDWARE:
        tried = (HARDWARE[settings.encoder],)
    else:
        return X264
    complaints = await asyncio.gather(*(_probe(name, settings) for name in tried))
    for name, complaint in zip(tried, complaints, strict=True):
        if not complaint:
            _log.info("encoder.chosen", encoder=name)
            return name
        # Asked for by name, it is missed; `auto` takes what there is.
        tell = _log.info if settings.encoder == "auto" else _log.warning
        tell("encoder.unusable", encoder=name, reason=complaint)
    _log.info("encoder.chosen", encoder=X264)
    return X264


async def _probe(name: str, settings: RecorderSettings) -> str:
    """Why it cannot be used; empty: it can."""
    size = (settings.width_px, settings.height_px, settings.frame_rate)
    arguments = ("-m", "jobs.recorder.encoder_choice", name, *map(str, size))
    # What draws and encodes needs no secrets.
    environ = {k: v for k, v in os.environ.items() if not k.startswith("AUTH_TOKEN")}
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=environ,
        )
    except OSError as error:
        return f"its test cannot be started: {error.strerror}"
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            _, said = await process.communicate()
    except TimeoutError:
        return f"no frame within {_PROBE_TIMEOUT_S:g} s"
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode == 0:
        return ""
    text = " ".join(said.decode(errors="replace").split())
    return text[:_REASON_CHARACTERS] or f"its test ended with {process.returncode}"


def main(arguments: Sequence[str]) -> int:
    """Encode a few frames as a recording would. 0: it works; 1: standard error says why not."""
    import av

    from jobs.recorder.encoders import prove

    av.logging.set_level(
        av.logging.ERROR
    )  # FFmpeg knows more of the reason than its error code tells
    name, width, height, frame_rate = arguments
    settings = RecorderSettings(
        "",
        "",
        "",
        "",
        "",
        width_px=int(width),
        height_px=int(height),
        frame_rate=int(frame_rate),
    )
    try:
        prove(name, settings, frames=_FRAMES)
    except (av.FFmpegError, OSError, ValueError) as error:
        sys.stderr.write(f"{str(error).partition(': ')[0]}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
