"""From the runner that a client names to the image that runs (job-service.md 1): pure.

The plugin names the vendor's images in the versions that it was released with. Ours of this release take
their place, whatever the version, unless an admin maps a runner elsewhere or keeps the vendor's images.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from offloader.models import JobType
from offloader.version import BUILD_VERSION

CONTRACT_LABEL: Final = "calls-native-offloader.job-contract"
"""An image with this label keeps docs/job-contract.md and takes its secrets from standard input."""
PROGRAMS: Final[Mapping[JobType, str]] = {
    JobType.RECORDING: "recorder",
    JobType.TRANSCRIBING: "transcriber",
}


def own_image(program: str) -> str:
    """Our image of this release; `program` is recorder or transcriber."""
    return f"calls-native-offloader/calls-{program}:{BUILD_VERSION}"


@dataclass(slots=True)
class RunnerImages:
    """Which image runs in place of a runner. One for each backend, which changes it when the settings are
    taken over anew."""

    patterns: Mapping[str, str] = field(default_factory=dict)
    """Runner names to images; `*` stands for any text, and the longest pattern that fits counts."""
    use_reference_images: bool = False
    """Runners that no pattern fits run the image that they name."""

    def image(self, runner: str, job_type: JobType | None = None) -> str:
        """The image for `runner`; `job_type` helps where its name does not tell what it is."""
        fitting = [pattern for pattern in self.patterns if _fits(pattern, runner)]
        if fitting:
            return self.patterns[max(fitting, key=len)]
        if self.use_reference_images:
            return runner
        named = re.search(r"/calls-(recorder|transcriber):", f"/{runner}")
        if named is not None:
            return own_image(named[1])
        return own_image(PROGRAMS[job_type]) if job_type is not None else runner

    def runs_ours(self, image: str) -> bool:
        """Whether `image`, which ran, may be one of ours; the vendor's have a runner's own name. Empty: it is
        not known which one ran."""
        return not (self.use_reference_images and image and image not in self.patterns.values())


def _fits(pattern: str, runner: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), runner) is not None
