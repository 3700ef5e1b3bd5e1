"""Keeps secrets out of a support bundle: by their values where those are known, and by their looks. Pure.

Three nets, one behind the other: every value that this host keeps secret; values whose name says what they
are; and texts that look like a token, whoever wrote them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import string
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from offloader.secrets import MASK

_NAMES: Final = (
    r"token|secret|passw|passphrase|_pwd|credential|signature|auth[_-]?key|api[_-]?key|access[_-]?key|"
    r"account[_-]?key|private[_-]?key|speech[_-]?key|authorization|cookie|transcribe_api_options|"
    r"otlp_.{0,40}headers|webhook"
)
_SECRET_NAME: Final = re.compile(_NAMES, re.IGNORECASE)
_ASSIGNED: Final = re.compile(
    rf"(?P<head>(?:{_NAMES}|\bpwd|[?&]sig)[\w.-]{{0,64}}\\*[\"']?\s{{0,9}}(?:=>|[:=])\s{{0,9}}"
    r"(?:[bru](?=[\"']))?)"
    # All between quotes, whatever it is; or up to the next separator.
    r"(?:(?P<open>\\*[\"'])(?:(?!(?<!\\)(?P=open))[^\n])+|(?![{\[\s])[^\s\"'\\,;&}]+)",
    re.IGNORECASE,
)
_ALL_OF_LINE: Final = re.compile(
    r"((?:otlp_.{0,40}headers|cookie)\\*[\"']?\s{0,9}[:=]\s{0,9}\\*[\"']?)[^\s\"'\\][^\"'\n]*",
    re.IGNORECASE,
)
"""Several values, of which each has a name that nobody knows."""
_PEM: Final = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
_PEM_END: Final = re.compile(r"-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----")
"""Of one whose beginning is cut off."""
_BASE64: Final = string.ascii_letters + string.digits + string.whitespace + "+/=\\"
_SCHEME: Final = re.compile(r"\b(Bearer|Basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE)
_IN_URL: Final = re.compile(r"(://)(?:[^/?#\s\"']+|[^/?#\s\"':]*:(?:(?!://)[^\s\"'])+)@")
"""Up to the last @: a password may hold one, and a `/`, too, where SQLAlchemy reads it."""
_NODES: Final = re.compile(r"[;,](?=[\w+.-]+://)")
_PASSWORD: Final = re.compile(r"[\w+.-]+://[^/?#\s:]*:(\S+)@")
_WEBHOOK: Final = re.compile(r"(/hooks/|hooks\.slack\.com/services/)[\w/-]+")
_MADE_BY: Final = re.compile(
    r"(?<![\w-])(?:(?:AKIA|ASIA)[A-Z0-9]{16}|(?:hf_|gh[pousr]_|glpat-|xox[abprs]-|sk-)[\w-]{10,})"
)
"""Of Amazon, Hugging Face, GitHub, GitLab, Slack, OpenAI."""
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_JWT: Final = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_RANDOM: Final = re.compile(
    r"(?<![A-Za-z0-9_-])(?=[A-Za-z0-9_-]*[A-Z])(?=[A-Za-z0-9_-]*[a-z])(?=[A-Za-z0-9_-]*[0-9])[A-Za-z0-9_-]{32,}"
)
"""Letters of both cases and digits: made by a generator. Digests are in small letters only, and stay."""
_MATTERMOST: Final = re.compile(r"(?<![A-Za-z0-9])[a-z0-9]{26}(?![A-Za-z0-9])")
"""Ids and tokens of Mattermost look the same."""
_SHORTEST: Final = 6
"""Shorter values stand in too many innocent places."""


def is_secret_name(name: str) -> bool:
    """Of a variable, a header, a member of an object."""
    return _SECRET_NAME.search(name) is not None


def secret_values(variables: Mapping[str, str]) -> set[str]:
    """What in an environment should be seen nowhere: values by their names, and passwords in URLs."""
    found = {value for name, value in variables.items() if is_secret_name(name)}
    for name, value in variables.items():
        if "://" in value:
            found |= passwords_in(value)
        if name.lower().endswith("headers"):  # OTEL_EXPORTER_OTLP_HEADERS: name=value,name=value
            values = [part.partition("=")[2].strip() for part in value.split(",")]
            found |= {form for text in values for form in (text, unquote(text))} - {""}
    return found


def passwords_in(url: str) -> set[str]:
    """As it is written there, and as it is meant; of every node where there are several."""
    found: set[str] = set()
    for node in _NODES.split(url):
        try:
            parts = urlsplit(node)
            found |= {parts.password or ""}
            found |= {value for name, value in parse_qsl(parts.query) if is_secret_name(name)}
        except ValueError:
            pass  # what it may be to another reader is looked at all the same
        if match := _PASSWORD.match(node):
            found.add(match[1])
    return (found | set(map(unquote, found))) - {""}


class Redactor:
    """Good for one bundle: a masked id is the same one everywhere in it, and in no other."""

    def __init__(self, known: Iterable[str], *, harmless: Iterable[str] = ()) -> None:
        """`known`: secret values; `harmless`: ids that may be read, such as those of jobs."""
        wanted: set[str] = set()
        for value in known:
            value = value.strip()
            if len(value) >= _SHORTEST:
                wanted |= {value, quote(value, safe=""), json.dumps(value)[1:-1]}
        # The longest first: one may be part of another.
        alternatives = "|".join(map(re.escape, sorted(wanted, key=len, reverse=True)))
        self._known = re.compile(alternatives) if alternatives else None
        self._harmless = frozenset(harmless)
        self._key = secrets.token_bytes(16)

    def text(self, text: str) -> str:
        """Of a log, a message, a value."""
        text = _COLOUR.sub("", text)
        if self._known is not None:
            text = self._known.sub(MASK, text)
        text = _without_key_ends(_PEM.sub(MASK, text))
        text = _SCHEME.sub(rf"\1 {MASK}", text)
        text = _IN_URL.sub(rf"\1{MASK}@", text)
        text = _WEBHOOK.sub(rf"\1{MASK}", text)
        text = _ALL_OF_LINE.sub(rf"\1{MASK}", text)
        text = _ASSIGNED.sub(rf"\g<head>\g<open>{MASK}", text)
        text = _MADE_BY.sub(MASK, text)
        text = _JWT.sub(MASK, text)
        text = _MATTERMOST.sub(self._pseudonym, text)
        return _RANDOM.sub(self._random, text)

    def document(self, value: Any) -> Any:
        """Of what JSON can hold; keys stay."""
        if isinstance(value, Mapping):
            return {str(key): self._member(str(key), member) for key, member in value.items()}
        if isinstance(value, list | tuple):
            if value and all(isinstance(item, str) for item in value):
                # Lines, maybe: a private key goes over several.
                return self.text("\n".join(value)).split("\n")
            return [self.document(item) for item in value]
        return self.text(value) if isinstance(value, str) else value

    def _member(self, name: str, value: Any) -> Any:
        if is_secret_name(name):
            if isinstance(value, str) and value:
                return MASK
            if isinstance(value, list | tuple):
                return [MASK if isinstance(item, str) else self.document(item) for item in value]
        return self.document(value)

    def _pseudonym(self, found: re.Match[str]) -> str:
        if found[0] in self._harmless:
            return found[0]
        return f"id-{hmac.new(self._key, found[0].encode(), hashlib.sha256).hexdigest()[:8]}"

    def _random(self, found: re.Match[str]) -> str:
        return found[0] if found[0] in self._harmless else MASK


def _without_key_ends(text: str) -> str:
    *before, rest = _PEM_END.split(text)
    return "".join(f"{part.rstrip(_BASE64)}\n{MASK}" for part in before) + rest
