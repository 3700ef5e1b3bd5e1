"""How programs of our own get what they are told: a file that their user alone can read (job-contract.md 1).

What a client sent, its token included, then stands in no environment, which `/proc` and engines show.
Programs of others get variables, as the reference gives them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

INPUT_VARIABLE: Final = "JOB_INPUT_FILE"
INPUT_NAME: Final = "input.json"
OTHERS_NAME: Final = "told"
"""Where the file is, if the job has another user than the service: a directory that is that user's."""
INPUT_DIR: Final = "/run/job"
"""In containers: a tmpfs, or a mounted Secret."""
INPUT_PATH: Final = f"{INPUT_DIR}/{INPUT_NAME}"
_PROGRAMS: Final = frozenset({("-m", "jobs.recorder"), ("-m", "jobs.transcriber")})
_IMAGE: Final = re.compile(
    r"(.*/)?calls-native-offloader/calls-(recorder|transcriber)([:@].*)?", re.DOTALL
)


def is_own_command(command: Sequence[str]) -> bool:
    """Whether it starts a program that reads JOB_INPUT_FILE."""
    return any(pair in _PROGRAMS for pair in pairwise(command))


def is_own_image_name(image: str) -> bool:
    """Whether an image that nobody can look into goes by our images' name, in whatever registry."""
    return _IMAGE.fullmatch(image) is not None


def input_document(variables: Mapping[str, str]) -> bytes:
    """The file's content: one JSON object of texts."""
    return json.dumps(dict(variables), ensure_ascii=False).encode()


def write_input(
    directory: Path, variables: Mapping[str, str], *, owner: tuple[int, int] | None = None
) -> Path:
    """Put it into a directory of a job that is about to start, which removes it. Blocks. Raises OSError.

    `owner`: IDs of the user and the group whose it shall be; None: this process's.
    """
    path = directory / INPUT_NAME
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        if owner is not None:
            os.fchown(descriptor, *owner)
        file.write(input_document(variables))
    return path


def forget_input(directory: Path) -> None:
    """Of a job that has ended, perhaps before it could read its input. Blocks. Raises OSError."""
    for place in (directory, directory / OTHERS_NAME):
        (place / INPUT_NAME).unlink(missing_ok=True)
