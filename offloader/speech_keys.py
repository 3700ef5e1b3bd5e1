"""What of a job's input names its speech service: kept encrypted beside its token, for whoever finishes the
job or transcribes its audio again. The job's own files never hold it (docs/job-contract.md 4).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from offloader.backends.environment import job_environment
from offloader.models import JobType

OPTION_NAME: Final = re.compile(r"(AZURE_SPEECH|OPENAI|SPEECH)_[A-Z_]{1,64}")
"""Options of speech services that may come as variables of their own (docs/transcription.md)."""
_ALL_OPTIONS: Final = "TRANSCRIBE_API_OPTIONS"
_NOTHING: Final = ("", "null", "{}")


def speech_variables(job_type: JobType, input_data: Mapping[str, Any]) -> dict[str, str]:
    """The variables of the job that say where its speech service is and by which key; often none."""
    if job_type is not JobType.TRANSCRIBING:
        return {}
    return {
        name: text
        for name, text in job_environment(input_data).variables.items()
        if (name == _ALL_OPTIONS or OPTION_NAME.fullmatch(name)) and text.strip() not in _NOTHING
    }
