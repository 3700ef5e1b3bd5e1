"""The polite stop and the kill after its grace. Blocks.

When a job is told to stop, the moment of the kill is written into its volume: it holds for whichever process
watches the job next, and tells afterwards that the kill was ours. The engine's own `stop` is not used: some
engines kill at once when the service that asked for it goes away.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from docker.errors import APIError

from foundation.logs import get_logger
from offloader.backends.docker.container import OWN_FILES_DIR
from offloader.backends.docker.engine import Engine
from offloader.backends.docker.observation import is_running, parse_time
from offloader.backends.docker.options import Reference
from offloader.backends.docker.volume import opened, put_files, read_document

_CLEARLY_SOONER_S: Final = 1.0
_INIT_READY_S: Final = 0.5
"""So old a container's init process has to be before it surely catches signals (usual: a few ms)."""
_GONE_OR_ENDED: Final = (404, 409)

log = get_logger()


class Stopper:
    """One per backend: knows when each job that was told to stop has to be killed."""

    def __init__(self) -> None:
        self._kill_at_s: dict[str, float] = {}
        """By container, on this host's monotonic clock; infinite: not told, by what its volume says."""
        self._lock = threading.Lock()

    def stop(self, engine: Engine, reference: Reference, *, grace_s: float) -> None:
        """Signal it, unless it was told already to end as soon; then only look whether its time is up."""
        container = engine.container(reference.container)
        if container is None or not is_running(container):
            return
        with self._lock:
            told_s = self._told(engine, reference, look_again=True)
            kill_at_s = time.monotonic() + grace_s
            if told_s > kill_at_s + _CLEARLY_SOONER_S:
                _write(engine, reference, grace_s=grace_s, killed=False)
                _await_init(container)
                signal = container["Config"].get("StopSignal") or "SIGTERM"
                _kill(engine, reference.container, signal)
                self._kill_at_s[reference.container] = kill_at_s
        self.kill_when_due(engine, reference)

    def kill_when_due(self, engine: Engine, reference: Reference) -> None:
        """Of a running job: end it by force when its grace has passed."""
        with self._lock:
            if time.monotonic() >= self._told(engine, reference):
                _write(engine, reference, grace_s=0.0, killed=True)
                _kill(engine, reference.container, "SIGKILL")

    def was_killed(self, engine: Engine, reference: Reference) -> bool:
        """Of an ended job: whether this or another process of the service has killed it."""
        return bool(_read(engine, reference).get("killed"))

    def forget(self, reference: Reference) -> None:
        """It has ended."""
        self._kill_at_s.pop(reference.container, None)

    def _told(self, engine: Engine, reference: Reference, *, look_again: bool = False) -> float:
        """When it is to be killed. What another process wrote is read when this one sees the job first, and
        again with each `stop` as long as nothing is known."""
        known_s = self._kill_at_s.get(reference.container)
        if known_s is None or (look_again and known_s == math.inf):
            document = _read(engine, reference)
            known_s = math.inf
            if "kill_at_s" in document:
                # Its clock may have been set since: never longer than the whole grace.
                left_s = float(document["kill_at_s"]) - time.time()
                known_s = time.monotonic() + min(max(left_s, 0.0), float(document["grace_s"]))
            self._kill_at_s[reference.container] = known_s
        return known_s


def _path(reference: Reference) -> str:
    return f"{OWN_FILES_DIR}/stop-{reference.salvage}.json"


def _read(engine: Engine, reference: Reference) -> Mapping[str, Any]:
    with opened(engine, reference) as container:
        if container is None:
            return {}
        return read_document(engine, container, _path(reference)) or {}


def _write(engine: Engine, reference: Reference, *, grace_s: float, killed: bool) -> None:
    """A note that cannot be written, on a full disk for example, must not keep the signal from the job: this
    process knows when to kill it; a later one would ask once more."""
    document = {"kill_at_s": time.time() + grace_s, "grace_s": grace_s, "killed": killed}
    try:
        put_files(engine, reference.container, {_path(reference): json.dumps(document).encode()})
    except APIError as error:
        text = str(error.explanation or error)
        log.warning("job.stop_not_noted", job_id=reference.job_id, error=text)


def _await_init(container: Mapping[str, Any]) -> None:
    started_at = parse_time(container["State"].get("StartedAt", ""))
    if started_at is not None:
        age_s = time.time() - started_at.timestamp()
        if 0 <= age_s < _INIT_READY_S:
            time.sleep(_INIT_READY_S - age_s)


def _kill(engine: Engine, container: str, signal: str) -> None:
    try:
        engine.client.kill(container, signal)
    except APIError as error:
        if error.response is None or error.response.status_code not in _GONE_OR_ENDED:
            raise
