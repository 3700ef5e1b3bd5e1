"""What the recorder is told by its environment (calls-plugin.md 9.1, texts of the reference)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar, Final

from jobs.recorder.options import read_options
from jobs.settings import JobSettings, choice_setting, int_setting, read_common

JOB_ID_VARIABLE: Final = "RECORDING_ID"
PRESETS: Final = ("medium", "fast", "faster", "veryfast", "superfast", "ultrafast")
PART_NAME: Final = "recording.part.mp4"
"""Written during the call."""
MP4_NAME: Final = "recording.mp4"
"""Complete, with the index in front."""


@dataclass(frozen=True, slots=True)
class RecorderSettings(JobSettings):
    """All of it, checked."""

    not_kept: ClassVar[frozenset[str]] = JobSettings.not_kept | {"warnings"}
    derived_files: ClassVar[frozenset[str]] = frozenset({MP4_NAME})
    sources_of_derived: ClassVar[frozenset[str]] = frozenset({PART_NAME})

    width_px: int = 1920
    height_px: int = 1080
    video_rate_kbps: int = 1500
    """At most; a quiet call needs less."""
    audio_rate_kbps: int = 64
    frame_rate: int = 30
    """Pictures a second, at most."""
    video_preset: str = "fast"
    """x264's name for how much work a bit is worth."""
    audio_only: bool = False
    """The pictures show that only the sound was recorded. This and what follows: docs/recording.md."""
    layout: str = "auto"
    """One of jobs.recorder.options.LAYOUTS."""
    quality: str = "medium"
    """One of jobs.recorder.options.QUALITIES."""
    encoder: str = "software"
    """One of jobs.recorder.options.ENCODERS."""
    chapters: bool = True
    """Are chapters written into the recording?"""
    artifacts: str = ""
    """Which files are kept beside it: names of jobs.recorder.options.ARTIFACTS with commas."""
    warnings: tuple[str, ...] = ()
    """What was corrected; to be logged."""

    def wants(self, artifact: str) -> bool:
        """Is that file to be kept beside the recording?"""
        return artifact in self.artifacts.split(",")


def read_settings(environ: Mapping[str, str]) -> RecorderSettings:
    """Check and convert; `EXTRA_CHROMIUM_ARGS` and `DEV_MODE` mean nothing here and are accepted.

    Raises:
        SettingsError: the first rule broken.
    """
    common = read_common(environ, job_id_variable=JOB_ID_VARIABLE)
    warnings: list[str] = []
    width_px = int_setting(environ, "WIDTH", name="Width", default=1920, low=1280, high=3840)
    height_px = int_setting(environ, "HEIGHT", name="Height", default=1080, low=720, high=2160)
    video_rate_kbps = int_setting(
        environ, "VIDEO_RATE", name="VideoRate", default=1500, low=500, high=10000
    )
    audio_rate_kbps = int_setting(
        environ, "AUDIO_RATE", name="AudioRate", default=64, low=32, high=320
    )
    frame_rate = int_setting(environ, "FRAME_RATE", name="FrameRate", default=30, low=10, high=60)
    preset = choice_setting(
        environ, "VIDEO_PRESET", name="VideoPreset", default="fast", choices=PRESETS
    )
    choice_setting(environ, "OUTPUT_FORMAT", name="OutputFormat", default="mp4", choices=("mp4",))
    options = read_options(environ)
    warnings += options.warnings
    return RecorderSettings(
        **asdict(common),
        width_px=_even(width_px, "WIDTH", warnings),
        height_px=_even(height_px, "HEIGHT", warnings),
        video_rate_kbps=video_rate_kbps,
        audio_rate_kbps=audio_rate_kbps,
        frame_rate=min(frame_rate, options.frame_rate_cap),
        video_preset=preset,
        audio_only=options.audio_only,
        layout=options.layout,
        quality=options.quality,
        encoder=options.encoder,
        chapters=options.chapters,
        artifacts=options.artifacts,
        warnings=tuple(warnings),
    )


def _even(value: int, variable: str, warnings: list[str]) -> int:
    """4:2:0 pictures have even sides."""
    if value % 2:
        warnings.append(f"{variable} = {value} should be even; {value - 1} is used")
    return value - value % 2
