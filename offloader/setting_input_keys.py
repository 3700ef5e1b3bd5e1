"""The keys `jobs.*` that bound what clients may ask of jobs; see `setting_keys.py`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from foundation.layered_config import Key

INPUT_KEYS: Final[Mapping[str, Key]] = MappingProxyType(
    {
        "jobs.allowed_speech_urls": Key(
            "list",
            (),
            "JOBS_ALLOWEDSPEECHURLS",
            "Servers of speech services that a client may name (AZURE_SPEECH_ENDPOINT, OPENAI_BASE_URL), "
            "such as https://speech.example.com. Empty: only the vendors' own, https://api.openai.com and "
            "https://REGION.stt.speech.microsoft.com. With celery set it on the workers, too.",
        ),
        "jobs.max_duration_s": Key(
            "int",
            86400,
            "JOBS_MAXDURATIONS",
            "The longest a job may take, in seconds; a client that asks for more gets this.",
        ),
        "jobs.max_width_px": Key(
            "int",
            3840,
            "JOBS_MAXWIDTHPX",
            "The widest picture of a recording, 1280 to 3840; a client that asks for more gets this.",
        ),
        "jobs.max_height_px": Key(
            "int", 2160, "JOBS_MAXHEIGHTPX", "The highest picture, 720 to 2160; as max_width_px."
        ),
        "jobs.max_frame_rate": Key(
            "int", 60, "JOBS_MAXFRAMERATE", "The most pictures a second, 10 to 60; as max_width_px."
        ),
    }
)
