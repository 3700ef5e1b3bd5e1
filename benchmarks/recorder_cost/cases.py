"""What is measured: the plugin's recording profiles, with and without a shared screen, and the targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from testbed.plugin.job_service import QUALITIES, RecordingQuality

PARTICIPANTS: Final = 8
TALKERS: Final = 2
SCREEN_FRAMES_PER_S: Final = 15


@dataclass(frozen=True, slots=True)
class Case:
    """A call of eight of whom two talk, recorded in one of the plugin's profiles."""

    name: str
    quality: str
    """A key of `QUALITIES` (calls-plugin.md 6.3)."""
    content: str | None
    """What is shared, a name in `content.CONTENTS`; None: the grid."""
    target_cpu: float | None
    """CPU-seconds per recorded second, at most."""

    @property
    def profile(self) -> RecordingQuality:
        return QUALITIES[self.quality]

    @property
    def target_rss_mb(self) -> int:
        return 150 if self.profile.height <= 720 else 200


CASES: Final = (
    Case("720p15 grid", "low", None, 0.06),
    Case("720p20 grid", "medium", None, 0.06),
    Case("1080p20 grid", "high", None, 0.08),
    Case("720p15 screen", "low", "slides", 0.24),
    Case("720p20 screen", "medium", "slides", 0.24),
    Case("1080p20 screen", "high", "slides", 0.33),
    Case("720p20 idle screen", "medium", "idle", None),
    Case("1080p20 idle screen", "high", "idle", None),
    Case("720p20 idle screen of a browser", "medium", "repeated", None),
    Case("1080p20 idle screen of a browser", "high", "repeated", None),
)
