"""Which servers of speech services a client may name (jobs.allowed_speech_urls): speech and a key go there.

Pure. Checked where a job comes in, with a clear answer, and once more by the job, which also finishes what an
earlier release let in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from offloader.setting_values import normal_site_url

ENDPOINTS: Final = ("AZURE_SPEECH_ENDPOINT", "OPENAI_BASE_URL")
"""Options that say where the service is (docs/transcription.md)."""
_ALL_OPTIONS: Final = "TRANSCRIBE_API_OPTIONS"
_VENDORS: Final = re.compile(
    r"https://api\.openai\.com|https://[a-z0-9]+\.stt\.speech\.microsoft\.com"
)


def named_endpoints(input_data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each endpoint that is not empty, and the key below which it stands, in whatever case that is."""
    for key, value in input_data.items():
        name = key.upper()
        if name in ENDPOINTS and value not in (None, ""):
            yield key, str(value)
        elif name == _ALL_OPTIONS:
            yield from (
                (f"{key}.{inner}", text) for inner, text in named_endpoints(_options(value))
            )


def why_endpoint_refused(url: str, *, allowed: frozenset[str]) -> str:
    """Why no speech may go there, to be put after a subject; empty when it may. Shows the server alone: the
    rest may hold a key."""
    try:
        parts = urlsplit(url.strip())
        server = normal_site_url(f"{parts.scheme}://{parts.netloc}")
    except ValueError:
        return "should be an http or https address without a user's name"
    if server in allowed or _VENDORS.fullmatch(server):
        return ""
    return f"is at {server[:200]!r}, which is not among jobs.allowed_speech_urls"


def _options(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}  # the job refuses it
    if not isinstance(value, dict):
        return {}
    return {key: inner for key, inner in value.items() if key.upper() in ENDPOINTS}
