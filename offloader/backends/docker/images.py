"""Presence of images: looked up, else pulled with the credentials of the Docker configuration."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import docker
import requests
from docker import auth, utils

from foundation.logs import get_logger
from offloader.backends.docker.engine import Engine, EngineError
from offloader.backends.runner_images import CONTRACT_LABEL

PREPARE_LIMIT_S: Final = 110.0
"""The plugin waits two minutes for the answer (calls-plugin.md 6.2)."""
LAUNCH_LIMIT_S: Final = 40.0
"""The plugin gives a job one minute from its request to its report."""
_PROGRESS_EVERY_S: Final = 5.0

log = get_logger()


@dataclass(frozen=True, slots=True)
class Image:
    """An image on the engine."""

    name: str
    own: bool
    """It keeps our contract, so it runs without privileges and takes its secrets from standard input."""


class Images:
    """One per backend; an image is pulled once, however many ask for it at the same time."""

    def __init__(self, engine: Engine, *, policy: str) -> None:
        """`policy`: `missing`, `always` (in `prepare` only) or `never`."""
        self._engine = engine
        self._policy = policy
        self._pulls: dict[str, asyncio.Lock] = {}

    async def prepare(self, names: Sequence[str]) -> None:
        """Make all of them present, in parallel.

        Raises:
            EngineError: naming each that could not be had.
        """
        unique = sorted(set(names))
        ready = (self._present(name, limit_s=PREPARE_LIMIT_S, fresh=True) for name in unique)
        results = await asyncio.gather(*ready, return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        for error in errors:
            if not isinstance(error, EngineError):
                raise error
        if errors:
            raise EngineError("; ".join(str(error) for error in errors))

    async def for_launch(self, name: str) -> Image:
        """The image, pulled when it is missing and the policy allows it.

        Raises:
            EngineError: it is not to be had.
        """
        return await self._present(name, limit_s=LAUNCH_LIMIT_S, fresh=False)

    async def _present(self, name: str, *, limit_s: float, fresh: bool) -> Image:
        async with self._pulls.setdefault(name, asyncio.Lock()):
            found = await self._engine.call(lambda engine: engine.image(name))
            wanted = found is None or (fresh and self._policy == "always")
            if wanted and self._policy == "never":
                raise EngineError(
                    f'image {name} is not on the engine, and jobs.docker.pull_policy is "never"'
                )
            if wanted:
                pull = partial(_pull, name=name, deadline_s=time.monotonic() + limit_s)
                await self._engine.call(pull, timeout_s=limit_s + 10)
                found = await self._engine.call(lambda engine: engine.image(name))
            if found is None:
                raise EngineError(f"image {name} is not on the engine, although it was pulled")
        return Image(name, own=_keeps_contract(found))


def _keeps_contract(image: Mapping[str, Any]) -> bool:
    return CONTRACT_LABEL in ((image.get("Config") or {}).get("Labels") or {})


def _pull(engine: Engine, *, name: str, deadline_s: float) -> None:
    """Blocks until the image is there. The limit holds between two lines of progress, which come often."""
    started_s = time.monotonic()
    log.info("image.pulling", image=name)
    repository, tag = utils.parse_repository_tag(name)
    engine.client.reload_config()
    registry, _ = auth.resolve_repository_name(repository)
    header = auth.get_config_header(engine.client, registry)
    try:
        response = engine.stream(
            "POST",
            "/images/create",
            params={"fromImage": repository, "tag": tag or "latest"},
            headers={"X-Registry-Auth": header} if header else None,
            timeout_s=max(deadline_s - started_s, 1.0),
        )
        with response:
            _watch(response, name=name, deadline_s=deadline_s)
    except docker.errors.APIError as error:
        raise _cannot_pull(name, str(error.explanation)) from error
    except requests.RequestException as error:
        raise _cannot_pull(name, "no progress in time") from error
    log.info("image.pulled", image=name, took_s=round(time.monotonic() - started_s, 1))


def _watch(response: requests.Response, *, name: str, deadline_s: float) -> None:
    progress = _Progress()
    told_s = time.monotonic()
    for line in response.iter_lines():
        record = json.loads(line)
        if "error" in record:
            raise _cannot_pull(name, str(record["error"]))
        progress.note(record)
        now_s = time.monotonic()
        if now_s > deadline_s:
            raise _cannot_pull(name, "it takes too long; the engine goes on with what it has")
        if now_s - told_s >= _PROGRESS_EVERY_S:
            told_s = now_s
            log.info("image.progress", image=name, **progress.figures())


@dataclass(slots=True)
class _Progress:
    """Adds up the layers of one pull."""

    _layers: dict[str, tuple[int, int]] = field(default_factory=dict)

    def note(self, record: Mapping[str, Any]) -> None:
        detail = record.get("progressDetail") or {}
        layer, total = str(record.get("id", "")), int(detail.get("total") or 0)
        if record.get("status") == "Downloading" and total:
            self._layers[layer] = (int(detail.get("current") or 0), total)
        elif record.get("status") == "Download complete" and layer in self._layers:
            size = self._layers[layer][1]
            self._layers[layer] = (size, size)

    def figures(self) -> dict[str, int]:
        return {
            "layers": len(self._layers),
            "done_bytes": sum(done for done, _ in self._layers.values()),
            "known_bytes": sum(total for _, total in self._layers.values()),
        }


def _cannot_pull(name: str, reason: str) -> EngineError:
    return EngineError(
        f"image {name} is not on the engine and cannot be pulled: {reason}; "
        "`make images` builds this release's images, jobs.runner_images names others"
    )
