"""From a job's `input_data` to its environment (calls-plugin.md 6.5): pure, shared by all backends."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_NAME: Final = re.compile(r"[A-Z_][A-Z0-9_]*")
_STEERING: Final = re.compile(
    # What the dynamic loader, the C library and their allocators read (ld.so(8), environ(7)).
    r"LD_.*|GLIBC_TUNABLES|MALLOC_.*|GCONV_PATH|LOCPATH|NLSPATH|RES_OPTIONS|LOCALDOMAIN|HOSTALIASES|"
    # What interpreters and shells read before the job's first line.
    r"PYTHON.*|PATH|BASH_.*|ENV|IFS|SHELL|SHELLOPTS|PS4|CDPATH|PERL.*|RUBY.*|NODE_.*|"
    # What decides whom the job trusts; its documented key is TLS_CA_CERT_FILE.
    r"OPENSSL_.*|SSL_CERT_.*|"
    # Where the service puts the job.
    r"HOME|TMPDIR|DATA_DIR|MODELS_DIR"
)


@dataclass(frozen=True, slots=True)
class JobEnvironment:
    """The variables of one job, and the keys that were left out."""

    variables: Mapping[str, str] = field(repr=False)
    """Holds the token."""
    dropped: tuple[str, ...]
    """Upper-cased names: they would steer loaders or interpreters, or are no variable names."""


def job_environment(input_data: Mapping[str, Any]) -> JobEnvironment:
    """Each key upper-cased, each value in plain text form.

    Numbers and booleans as in JSON (`1280`, `0.5`, `true`), texts as they are, lists and objects as
    JSON; a null leaves the variable out, so that the job's default applies. When two keys differ only
    in case the later one wins.
    """
    variables: dict[str, str] = {}
    dropped: list[str] = []
    for key, value in input_data.items():
        name = key.upper()
        if not _NAME.fullmatch(name) or _STEERING.fullmatch(name):
            dropped.append(name)
        elif value is not None:
            variables[name] = plain_text(value)
    return JobEnvironment(variables, tuple(dropped))


def plain_text(value: Any) -> str:
    """`1280`, `0.5`, `true`, the text itself, or JSON. Whole floats lose their fraction, as in Go."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)
