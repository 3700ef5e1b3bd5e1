"""What the SFU says by a `signal` event of the WebSocket (calls-plugin.md 4)."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Final

from rtc.calls_dc import read_sdp_json

CANDIDATE: Final = "candidate"


def read_signal(text: str) -> tuple[str, str]:
    """`CANDIDATE` and a candidate's line, or `offer` or `answer` and an SDP.

    `text` is a string of JSON within the event, not an object (trap 6).

    Raises:
        DcError: it is something else.
    """
    with suppress(ValueError, RecursionError, KeyError, TypeError):
        value = json.loads(text)
        if value["type"] == CANDIDATE:
            return CANDIDATE, str(value["candidate"]["candidate"])
    return read_sdp_json(text)
