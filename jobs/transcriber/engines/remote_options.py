"""What TRANSCRIBE_API_OPTIONS says about a speech service (calls-plugin.md 6.4, docs/transcription.md)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

AZURE: Final = "azure"
OPENAI: Final = "openai/whisper"
REMOTE_APIS: Final = (AZURE, OPENAI)
_OPENAI_URL: Final = "https://api.openai.com/v1"
_ENDPOINTS: Final = ("AZURE_SPEECH_ENDPOINT", "OPENAI_BASE_URL")
_VENDORS: Final = re.compile(
    r"https://api\.openai\.com|https://[a-z0-9]+\.stt\.speech\.microsoft\.com"
)
OPTION_NAMES: Final = (
    "AZURE_SPEECH_KEY",
    "AZURE_SPEECH_REGION",
    "AZURE_SPEECH_ENDPOINT",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "OPENAI_MODEL",
    "OPENAI_CAPTIONS",
    "SPEECH_TIMEOUT_S",
    "SPEECH_MAX_REQUESTS",
    "SPEECH_REQUESTS_PER_MINUTE",
)


class OptionsError(ValueError):
    """An option is missing or unusable; the message names it and never holds a key."""


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """All of it, checked."""

    api: str
    url: str = field(repr=False)
    """Without a trailing slash."""
    key: str = field(default="", repr=False)
    """Empty: the service asks for none."""
    model: str = ""
    captions: bool = False
    timeout_s: int = 60
    max_requests: int = 4
    """At the same time."""
    per_minute: int = 0
    """0: no limit of ours."""


def has_options(text: str) -> bool:
    """Is there anything in it? A job that is finished later by another process has no keys any more."""
    return bool(json.loads(text or "null"))


def may_go(options: Mapping[str, Any], allowed: str) -> bool:
    """Whether speech may go to the servers that `options` name: the vendors' own, and those of `allowed`,
    which are separated by commas and written as `https://host[:port]`."""
    servers = [_server(str(options[name])) for name in _ENDPOINTS if options.get(name)]
    known = {server for server in allowed.split(",") if server}
    return all(server in known or _VENDORS.fullmatch(server) for server in servers)


def _server(url: str) -> str:
    """Scheme, host and port, where that is not the scheme's own; empty: it is of no use."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        return ""
    if not parts.hostname or parts.username is not None:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    usual = port is None or port == {"http": 80, "https": 443}.get(parts.scheme)
    return f"{parts.scheme}://{host}" + ("" if usual else f":{port}")


def read_options(api: str, text: str) -> RemoteOptions:
    """`text`: a JSON object or `null`.

    Raises:
        OptionsError: the first rule broken.
    """
    options = json.loads(text or "null") or {}
    common: dict[str, Any] = {
        "timeout_s": _number(options, "SPEECH_TIMEOUT_S", default=60, low=1, high=600),
        "max_requests": _number(options, "SPEECH_MAX_REQUESTS", default=4, low=1, high=64),
        "per_minute": _number(options, "SPEECH_REQUESTS_PER_MINUTE", default=0, low=0, high=100000),
    }
    if api == AZURE:
        return _azure(options, common)
    return _openai(options, common)


def _azure(options: Mapping[str, Any], common: Mapping[str, Any]) -> RemoteOptions:
    key, url = _text(options, "AZURE_SPEECH_KEY"), _url(options, "AZURE_SPEECH_ENDPOINT")
    if url:
        return RemoteOptions(AZURE, url, key, **common)
    region = _text(options, "AZURE_SPEECH_REGION")
    if not key:
        raise OptionsError("AZURE_SPEECH_KEY is missing")
    if not region.isascii() or not region.isalnum():
        # Without the value: the two fields of the settings page are easily mixed up.
        raise OptionsError("AZURE_SPEECH_REGION should be a region such as westeurope")
    return RemoteOptions(AZURE, f"https://{region}.stt.speech.microsoft.com", key, **common)


def _openai(options: Mapping[str, Any], common: Mapping[str, Any]) -> RemoteOptions:
    key, url = _text(options, "OPENAI_API_KEY"), _url(options, "OPENAI_BASE_URL")
    if not key and not url:
        raise OptionsError(
            "OPENAI_API_KEY is missing (or OPENAI_BASE_URL of a server without keys)"
        )
    captions = _text(options, "OPENAI_CAPTIONS").lower()
    if captions not in ("", "true", "false"):
        raise OptionsError(f"OPENAI_CAPTIONS={captions!r}: should be true or false")
    return RemoteOptions(
        OPENAI,
        url or _OPENAI_URL,
        key,
        model=_text(options, "OPENAI_MODEL") or "whisper-1",
        captions=captions == "true",
        **common,
    )


def _text(options: Mapping[str, Any], name: str) -> str:
    value = options.get(name)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).strip() if value is not None else ""


def _url(options: Mapping[str, Any], name: str) -> str:
    text = _text(options, name).rstrip("/")
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.query
    except ValueError:
        usable = False
    if not usable:
        raise OptionsError(f"{name} should be an http or https address without a query")
    return text


def _number(options: Mapping[str, Any], name: str, *, default: int, low: int, high: int) -> int:
    text = _text(options, name)
    if not text:
        return default
    if not text.isdecimal() or not low <= int(text) <= high:
        raise OptionsError(
            f"{name}={text!r}: should be a whole number in the range [{low}, {high}]"
        )
    return int(text)
