"""What the plugin is told of a job that could not be created: it shows that to everybody in the call.

The service's log, and `failure` of the job, have the whole reason for the admin.
"""

from __future__ import annotations

import re
from typing import Final

from foundation.technical_words import TECHNICAL
from offloader.failures import refusal_of
from offloader.setting_keys import KEYS

LONGEST: Final = 200
"""Characters of the whole text."""
PREFIX: Final = "failed to create recording job: "
"""For every type, as the reference has it: admins search for it."""
_AS_IT_IS: Final = re.compile(
    r"(max concurrent jobs reached|not enough disk|too many unpublished results"
    r"|the service is|its launch took so long)\b.*"
)
"""Reasons of our own without anybody's words in them."""
_FULL: Final = "max concurrent jobs reached"
"""The reference's words, whatever else is to be said: the admin knows them, and scripts look for them."""
_SETTING: Final = re.compile(rf"\b({'|'.join(map(re.escape, KEYS))})(?![\w.])")


def refusal_text(reason: str) -> str:
    """At most 200 characters without address, host name, path or exit code."""
    plain = _AS_IT_IS.fullmatch(reason) and not TECHNICAL.search(_SETTING.sub("", reason))
    if not plain or len(PREFIX + reason) > LONGEST:
        reason = _FULL if reason.startswith(f"{_FULL}: ") else refusal_of(reason).cause
    return PREFIX + reason
