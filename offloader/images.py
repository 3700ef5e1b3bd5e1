"""Which runner names are acceptable (job-service.md 1): registry, image, tag and minimum version.

The names are those of the vendor's container images. A backend without containers accepts the same
names and starts its own jobs for them.
"""

from __future__ import annotations

import re
from typing import Final

from offloader.errors import InvalidJob

MINIMUM_VERSIONS: Final = {"recorder": (0, 6, 0), "transcriber": (0, 1, 0)}
_NUMBER: Final = "([0-9]{1,9})"


def validate_runner(runner: str, *, registry: str, checks: bool) -> None:
    """Accept `<registry>/calls-(recorder|transcriber):vX.Y.Z(-devN)`, at least the minimum version.

    A `-dev` suffix does not count in the comparison. Without `checks` (development and test mode) any
    name that is not empty will do.

    Raises:
        InvalidJob: with the wire's text, without a prefix.
    """
    if not runner:
        raise InvalidJob("runner should not be empty")
    if not registry:
        raise InvalidJob("registry should not be empty")
    if not checks:
        return
    name = f"{re.escape(registry)}/calls-(recorder|transcriber)"
    match = re.fullmatch(rf"{name}:v{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-dev[0-9]*)?", runner)
    if match is None:
        raise InvalidJob(f'failed to validate runner "{runner}"')
    job, *numbers = match.groups()
    actual = tuple(int(number) for number in numbers)
    minimum = MINIMUM_VERSIONS[job]
    if actual < minimum:
        raise InvalidJob(
            f"actual version ({_dotted(actual)}) is lower than minimum supported version "
            f"({_dotted(minimum)})"
        )


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
