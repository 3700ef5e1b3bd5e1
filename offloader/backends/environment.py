"""From a job's `input_data` to its environment (calls-plugin.md 6.5): pure, shared by all backends."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from offloader.errors import LaunchFailed

LONGEST_VARIABLE_BYTES: Final = 128 * 1024 - 1
"""MAX_ARG_STRLEN, execve(2); a container would be started, and nothing would run in it."""
_NAME: Final = re.compile(r"[A-Z_][A-Z0-9_]*")
_STEERING: Final = re.compile(
    # What the dynamic loader, the C library and their allocators read (ld.so(8), environ(7)).
    r"LD_.*|GLIBC_TUNABLES|MALLOC_.*|GCONV_PATH|LOCPATH|NLSPATH|RES_OPTIONS|LOCALDOMAIN|HOSTALIASES|"
    # What interpreters, shells and the tools that they call read before the job's first line.
    r"PYTHON.*|PATH|BASH_.*|ENV|IFS|SHELL|SHELLOPTS|BASHOPTS|PS[0-9]|PROMPT_COMMAND|CDPATH|PERL.*|RUBY.*|NODE_.*|"
    r"LUA_.*|JAVA_.*|_JAVA_OPTIONS|JDK_.*|CLASSPATH|GIT_.*|BROWSER|EDITOR|VISUAL|PAGER|LESS.*|XDG_.*|DBUS_.*|DISPLAY|"
    # What libraries of numbers and media load, and how many threads they start.
    r"OMP_.*|OPENBLAS_.*|MKL_.*|KMP_.*|GOMP_.*|CUDA_.*|NVIDIA_.*|LIBVA_.*|LIBGL_.*|GST_.*|HF_.*|ORT_.*|CT2_.*|"
    # By whose hands it talks to others, and whom it trusts; its documented key is TLS_CA_CERT_FILE.
    r"([A-Z]+_)?PROXY|OPENSSL_.*|SSL_CERT_.*|SSLKEYLOGFILE|CURL_.*|REQUESTS_CA_BUNDLE|"
    # Whether the admin has named its site, and which speech services.
    r"SITE_URL_ALLOWED|ALLOWED_SPEECH_URLS|"
    # Where it finds what it is told, and its token.
    r"JOB_INPUT_FILE|JOB_SECRETS|JOB_CRASHED|AUTH_TOKEN_FILE|RETRANSCRIPTION.*|"
    # Where the service puts the job.
    r"HOME|LANG|TZ|LC_.*|TMPDIR|DATA_DIR|MODELS_DIR|COPIES_URL|AWS_.*|FILES_GO_WITH_JOB|PUBLISH_UNFENCED|"
    # Whom it hands speech to after the call.
    r"TRANSCRIBE_TASKS_URL|TRANSCRIBE_TASKS_TOKEN|"
    # Where it sends its traces.
    r"OTEL_.*|"
    # When the service ends it.
    r"MAX_DURATION_S|STOP_GRACE_S"
)
_NAMED: Final = 20
"""So many dropped names are shown, and so much of each: a client has made them up."""
_SHOWN: Final = 64


@dataclass(frozen=True, slots=True)
class JobEnvironment:
    """The variables of one job, and the keys that were left out."""

    variables: Mapping[str, str] = field(repr=False)
    """Holds the token."""
    dropped: tuple[str, ...]
    """Upper-cased names: they would steer the job's process, are ours to set, or are no variable names."""

    @property
    def dropped_fields(self) -> dict[str, Any]:
        """For a log line: how many, and the first of their names."""
        return {"count": len(self.dropped), "names": [n[:_SHOWN] for n in self.dropped[:_NAMED]]}


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


def deadline_variables(*, max_duration_s: int, stop_grace_s: float) -> dict[str, str]:
    """By these a job ends itself while no service runs; 0: it has no longest duration."""
    if not max_duration_s:
        return {}
    return {"MAX_DURATION_S": str(max_duration_s), "STOP_GRACE_S": str(max(round(stop_grace_s), 1))}


def check_lengths(variables: Mapping[str, str]) -> None:
    """Raises LaunchFailed for a variable that is longer than a program can be given."""
    for name, text in variables.items():
        if len(f"{name}={text}".encode()) > LONGEST_VARIABLE_BYTES:
            raise LaunchFailed(
                f"the variable {name} is too long: at most {LONGEST_VARIABLE_BYTES} bytes with its name"
            )


def plain_text(value: Any) -> str:
    """`1280`, `0.5`, `true`, the text itself, or JSON. Whole floats lose their fraction, as in Go."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)
