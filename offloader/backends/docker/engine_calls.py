"""What this service asks of a Docker Engine, and nothing else: each call as method and path.

For a proxy in front of the engine's socket, which refuses all else:

    python -m offloader.backends.docker.engine_calls > haproxy.cfg

The tests on a real engine run behind such a proxy. What containers are made with, which stands in bodies, is
`container.py`'s.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

_VERSION: Final = r"(/v1\.[0-9]+)?"
_OURS: Final = r"calls-(recorder|transcriber)-[a-z0-9-]+"
"""Names of our containers and volumes: nothing of others can be read, ended or removed."""
_IMAGE: Final = r"[a-z0-9][A-Za-z0-9_.:@-]*(/[a-z0-9][A-Za-z0-9_.:@-]*)*"


@dataclass(frozen=True, slots=True)
class EngineCall:
    """One of them (Docker Engine API 1.41)."""

    method: str
    path: str
    """Without the API's version in front; `NAME`: of a container or volume of ours, `IMAGE`: of any image."""
    why: str

    @property
    def pattern(self) -> str:
        """The whole path, as a regular expression."""
        return f"^{_VERSION}{self.path.replace('NAME', _OURS).replace('IMAGE', _IMAGE)}$"


ENGINE_CALLS: Final = (
    EngineCall("GET", "/_ping", "whether it can be used"),
    EngineCall("GET", "/version", "API version; doctor"),
    EngineCall("GET", "/info", "which engine it is, room on its disk; doctor"),
    EngineCall("GET", "/networks", "doctor: whether `jobs.docker.network` is there"),
    EngineCall("GET", "/images/IMAGE/json", "whether an image is there, and whether it is ours"),
    EngineCall("POST", "/images/create", "pull an image"),
    EngineCall("GET", "/distribution/IMAGE/json", "doctor: whether a registry has an image"),
    EngineCall("GET", "/containers/json", "find the jobs, by label"),
    EngineCall("POST", "/containers/create", "make a job's container"),
    EngineCall("GET", "/containers/NAME/json", "state of a job"),
    EngineCall("POST", "/containers/NAME/attach", "give it its input"),
    EngineCall("POST", "/containers/NAME/start", "start it"),
    EngineCall("POST", "/containers/NAME/kill", "the polite stop, and the kill after its grace"),
    EngineCall("POST", "/containers/NAME/update", "fewer CPU shares after the call"),
    EngineCall("POST", "/containers/NAME/wait", "doctor: until a check has ended"),
    EngineCall("GET", "/containers/NAME/logs", "a job's log"),
    EngineCall(
        "HEAD", "/containers/NAME/archive", "whether a file is in its volume, and a plain one"
    ),
    EngineCall("GET", "/containers/NAME/archive", "list and read the files in its volume"),
    EngineCall(
        "PUT", "/containers/NAME/archive", "give it the private CA; note when it was told to stop"
    ),
    EngineCall("DELETE", "/containers/NAME", "remove it"),
    EngineCall("POST", "/volumes/create", "make a job's volume"),
    EngineCall("GET", "/volumes", "find jobs that lost their container, by label"),
    EngineCall("GET", "/volumes/NAME", "whether it is there"),
    EngineCall("DELETE", "/volumes/NAME", "remove it"),
)


def is_listed(method: str, target: str) -> bool:
    """Whether a request, by its first line, is one of them."""
    path = unquote(target.partition("?")[0])
    return any(call.method == method and re.fullmatch(call.pattern, path) for call in ENGINE_CALLS)


def haproxy_configuration(
    *, engine: str = "/var/run/docker.sock", door: str = "/run/calls-offloader-engine/docker.sock"
) -> str:
    """A proxy's whole configuration; `engine` and `door` are paths of sockets, the service's being `door`."""
    rules = [
        f"    http-request allow if {{ method {call.method} }} {{ path,url_dec -m reg {call.pattern} }}"
        for call in ENGINE_CALLS
    ]
    # Longer than a pull may pause, and than an attached job waits for its start.
    return "\n".join(
        (
            "defaults",
            "    mode http",
            "    timeout connect 5s",
            "    timeout client 150s",
            "    timeout server 150s",
            "    timeout tunnel 1h",
            "frontend jobs",
            f"    bind unix@{door} mode 660 group calls-offloader",
            *rules,
            "    http-request deny",
            "    default_backend engine",
            "backend engine",
            f"    server engine unix@{engine}",
            "",
        )
    )


if __name__ == "__main__":
    sys.stdout.write(haproxy_configuration())
