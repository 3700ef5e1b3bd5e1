"""What people in a call are told of a job's failure: one plain sentence and the job's ID.

The log has the whole reason, with addresses and codes, for the admin; whoever is in the call can neither use
nor should see them.
"""

from __future__ import annotations

import re
from typing import Final

from foundation.technical_words import TECHNICAL

LONGEST: Final = 200
"""Characters of the whole text."""

_SENTENCES: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), sentence)
    for pattern, sentence in (
        (r"LiveKit", "the call is on LiveKit, where it cannot be recorded or transcribed"),
        (r"no job connects to|allowed_site_urls", "jobs may not connect to this site's address"),
        (r"pairs tried|media|\bICE\b|DTLS", "the call's sound and picture could not be reached"),
        (r"certificate|\bTLS\b", "the connection to Mattermost is not trusted"),
        (r"proxy", "the proxy on the way to Mattermost did not let it through"),
        (r"HTTP 401|hello", "Mattermost did not accept the job's credentials"),
        (r"refused with HTTP|answered with HTTP", "Mattermost refused a request of the job"),
        (r"resolve|no connection|no answer|closed it|socket", "Mattermost could not be reached"),
        (r"no model", "the speech model that was asked for is not there"),
        (r"model", "the speech model could not be loaded"),
        (r"disk|No space", "its disk is full"),
        (r"permission denied|read-only|no such file", "its files could not be written"),
        (r"value|setting|pars", "its settings cannot be used"),
    )
)
"""For reasons with technical words; the first that matches."""
_ANY: Final = "it met a problem that its log tells of"


def for_people(reason: str, *, job_id: str) -> str:
    """At most 200 characters without address, host, path or code; `job_id` is the plugin's."""
    ending = f" (job {job_id})"
    sentence = reason.strip()
    if not sentence or TECHNICAL.search(sentence):
        found = (plain for pattern, plain in _SENTENCES if pattern.search(sentence))
        sentence = next(found, _ANY)
    room = LONGEST - len(ending)
    if len(sentence) > room:
        sentence = sentence[: room - 2].rsplit(" ", 1)[0] + " …"
    return sentence + ending
