"""Settings of the Calls plugin: how the System Console calls them, and their environment variables.

Names: calls-plugin.md 6.1 and 6.5, and the vendor's settings reference ("Plugins > Calls"). A variable in the
environment of the Mattermost server takes the place of what the console has.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any, Final

PLACE: Final = "System Console > Plugins > Calls"
_NAMES: Final[Mapping[str, tuple[str, str]]] = {
    "JobServiceURL": ("Job service URL", "MM_CALLS_JOB_SERVICE_URL"),
    "MaxRecordingDuration": ("Maximum call recording duration", "MM_CALLS_MAX_RECORDING_DURATION"),
    "RecordingQuality": ("Call recording quality", "MM_CALLS_RECORDING_QUALITY"),
    "EnableTranscriptions": ("Enable call transcriptions", "MM_CALLS_ENABLE_TRANSCRIPTIONS"),
    "TranscriberModelSize": ("Transcriber model size", "MM_CALLS_TRANSCRIBER_MODEL_SIZE"),
    "TranscriberNumThreads": ("Call transcriber threads", "MM_CALLS_TRANSCRIBER_NUM_THREADS"),
    "EnableLiveCaptions": ("Enable live captions", "MM_CALLS_ENABLE_LIVE_CAPTIONS"),
    "LiveCaptionsModelSize": ("Live captions: Model size", "MM_CALLS_LIVE_CAPTIONS_MODEL_SIZE"),
    "LiveCaptionsNumTranscribers": (
        "Live captions: Number of transcribers used per call",
        "MM_CALLS_LIVE_CAPTIONS_NUM_TRANSCRIBERS",
    ),
    "LiveCaptionsNumThreadsPerTranscriber": (
        "Live captions: Number of threads per transcriber",
        "MM_CALLS_LIVE_CAPTIONS_NUM_THREADS_PER_TRANSCRIBER",
    ),
    "LiveCaptionsLanguage": ("Live captions language", "MM_CALLS_LIVE_CAPTIONS_LANGUAGE"),
}
_ONLY_ENVIRONMENT: Final = frozenset(
    {
        "MM_CALLS_JOB_SERVICE_CLIENT_ID",
        "MM_CALLS_JOB_SERVICE_IMAGE_REGISTRY",
        "MM_CALLS_RECORDER_SITE_URL",
        "MM_CALLS_TRANSCRIBER_SITE_URL",
    }
)
"""What the console does not have; findings name these by the variable itself."""


def console_lines(plugin: Mapping[str, Any]) -> Iterator[str]:
    """`Job service URL: http://…`, in the order of the console; those that it has."""
    for key, (label, _) in _NAMES.items():
        if key in plugin:
            yield f"{label}: {_shown(plugin[key])}"


def environment_lines(plugin: Mapping[str, Any]) -> Iterator[str]:
    """`MM_CALLS_…=value`, as a shell and a unit's EnvironmentFile read them."""
    for key, value in plugin.items():
        variable = _NAMES[key][1] if key in _NAMES else key
        if key in _NAMES or key in _ONLY_ENVIRONMENT:
            yield f"{variable}={shlex.quote(_shown(value))}"


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
