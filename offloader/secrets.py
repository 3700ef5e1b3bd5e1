"""What of `input_data` may be stored and shown: known settings, by name. Everything else is `***`.

The client's document is split once, at the door: a public copy, in which every value that is not known to be
harmless is `***`, goes everywhere; the real values go to the backend's `launch` and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

MASK: Final = "***"
_SETTINGS: Final = """
    site_url call_id post_id recording_id transcription_id traceparent
    width height video_rate audio_rate frame_rate video_preset output_format
    audio_only layout frame_rate_cap quality encoder chapters artifacts
    model_size num_threads transcribe_api model fallback_model compute_type languages keep_audio
    live_captions_on live_captions_model live_captions_model_size live_captions_language
    live_captions_num_transcribers live_captions_num_threads_per_transcriber live_captions_context_s
    webvtt_omit_speaker text_compact_silence_threshold_ms text_compact_max_segment_duration_ms
    without_recording publish_after_s ice_transport log_level tls_ca_cert_file
"""
_SHOWN: Final = frozenset(_SETTINGS.split())
"""Keys that jobs document (docs/job-contract.md 1) and that hold neither keys nor people's words."""
_KEPT: Final = _SHOWN | {"vocabulary"}
"""Names and words of people; a transcript that is made again needs them."""
_URL_CREDENTIALS: Final = re.compile(r"(://)[^/?#@\s]+@")


def masked(input_data: Mapping[str, Any]) -> dict[str, Any]:
    """`input_data` as it is stored: the same keys, what is not known to be harmless replaced by `***`.

    Values that say nothing stay: empty ones, booleans and `"null"`. Credentials inside a URL are masked.
    """
    return _masked(input_data, _KEPT)


def shown(input_data: Mapping[str, Any]) -> dict[str, Any]:
    """`input_data` as answers show it, whatever release has stored it."""
    return _masked(input_data, _SHOWN)


def _masked(input_data: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    return {key: _value(key.lower() in known, value) for key, value in input_data.items()}


def _value(known: bool, value: Any) -> Any:
    if isinstance(value, bool) or value in (None, "", "null", {}, []):
        return value
    if not known or not isinstance(value, str | int | float):
        return MASK
    return _URL_CREDENTIALS.sub(rf"\1{MASK}@", value) if isinstance(value, str) else value
