"""The images that jobs run in: on the engine, or to be had from their registry with its credentials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from offloader.backends.runner_images import CONTRACT_LABEL, RunnerImages, own_image
from offloader.doctor.finding import Finding, failure, note, ok, skipped, warning
from offloader.doctor.machine import size
from offloader.doctor.step import Context
from offloader.images import MINIMUM_VERSIONS

if TYPE_CHECKING:
    from offloader.backends.docker.engine import Engine

_ASK_S: Final = 12.0
_DENIED: Final = ("unauthorized", "denied", "no basic auth credentials", "authentication required")
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


async def look_at_images(
    engine: Engine, info: Mapping[str, Any], context: Context
) -> Sequence[Finding]:
    """One finding or more for each program's image. Raises EngineError."""
    from offloader.backends.docker.engine import EngineError

    found: list[Finding] = []
    for program in MINIMUM_VERSIONS:
        name = wanted_image(program, context)
        what = f"image of the {program}"
        if name is None:
            why = "jobs.use_reference_images: the plugin names it, in the version of its release"
            found.append(skipped("docker_image_unknown", what, why))
            continue
        known = await engine.call(partial(_inspected, name=name), timeout_s=_ASK_S)
        if known is not None:
            found += judge_present(what, name, known, info)
            continue
        refusal: tuple[int, str] | None = None
        policy = context.settings.jobs.docker.pull_policy
        if policy != "never" and name != own_image(program):
            try:
                await engine.call(partial(_asked_for, name=name), timeout_s=_ASK_S)
            except EngineError as error:
                refusal = error.status, str(error)
            else:
                found.append(_to_be_pulled(what, name))
                continue
        found.append(_missing(what, name, policy, refusal))
    return found


def _inspected(engine: Engine, *, name: str) -> Mapping[str, Any] | None:
    return engine.image(name)


def _asked_for(engine: Engine, *, name: str) -> None:
    """The engine asks the registry, with the credentials of the service's Docker configuration."""
    engine.client.inspect_distribution(name)


def wanted_image(program: str, context: Context) -> str | None:
    """What runs for any version of `program` that a plugin names; None: that depends on the version."""
    jobs = context.settings.jobs
    images = RunnerImages(jobs.runner_images, jobs.use_reference_images)
    runners = [
        f"{jobs.image_registry}/calls-{program}:v{version}" for version in ("1.0.0", "9.9.9")
    ]
    chosen = {images.image(runner) for runner in runners}
    return chosen.pop() if len(chosen) == 1 else None


def judge_present(
    what: str, name: str, known: Mapping[str, Any], info: Mapping[str, Any]
) -> Iterator[Finding]:
    """An image that the engine has; `known`, `info`: as it tells of the two."""
    data = {"image": name, "id": known.get("Id"), "size_bytes": known.get("Size")}
    made_for = str(known.get("Architecture", ""))
    here = str(info.get("Architecture", ""))
    here = _MACHINES.get(here, here)
    if made_for and here and made_for != here:
        yield failure(
            "docker_image_architecture",
            what,
            f"{name} is for {made_for}, the engine is {here}",
            cause="it cannot run here, or only emulated and far too slowly",
            fix=(f"pull or build it for {here}",),
            data=data,
        )
        return
    if CONTRACT_LABEL not in ((known.get("Config") or {}).get("Labels") or {}):
        yield warning(
            "docker_image_foreign",
            what,
            name,
            cause="it is none of ours: it runs with more privileges, and its token shows in docker inspect",
            fix=("remove it from jobs.runner_images to use this release's own image",),
            data=data,
        )
        return
    yield ok("docker_image", what, f"{name}, {size(float(known.get('Size') or 0))}", data=data)


def _to_be_pulled(what: str, name: str) -> Finding:
    return note(
        "docker_image_to_pull",
        what,
        f"{name}: in its registry, not on the engine yet",
        cause="it is pulled when the plugin starts, else the first recording waits for it",
        fix=(f"docker pull {name}",),
        data={"image": name},
    )


def _missing(what: str, name: str, policy: str, refusal: tuple[int, str] | None) -> Finding:
    data = {"image": name, "pull_policy": policy}
    if refusal is None:
        why = (
            "pull_policy is never"
            if policy == "never"
            else "this release's images are in no public registry"
        )
        return failure(
            "docker_image_missing",
            what,
            f"{name}: not on the engine",
            cause=f"no job of this kind can start: {why}",
            fix=(
                "make images, or docker load of the bundle's archive",
                'or [jobs.runner_images] "*/calls-recorder:*" = "REGISTRY/calls-recorder:VERSION"',
            ),
            data=data,
        )
    status, text = refusal
    registry = name.split("/")[0]
    # Engines answer 500 to a login of theirs that is missing, and tell why in words.
    if status in (401, 403) or any(sign in text for sign in _DENIED):
        return failure(
            "docker_registry_denied",
            what,
            f"{name}: {text}",
            cause=f"{registry} wants credentials, or others than the service's user has",
            fix=(
                f"sudo -u calls-offloader -H docker login {registry}",
                "or DOCKER_CONFIG=DIRECTORY of the config.json in the service's environment",
            ),
            data=data,
        )
    return failure(
        "docker_registry_unusable",
        what,
        f"{name}: {text}",
        cause="neither on the engine nor to be had: name, network, proxy or authority of the registry",
        fix=(f"docker pull {name}", "jobs.runner_images: the name of an image that is there"),
        data=data,
    )
