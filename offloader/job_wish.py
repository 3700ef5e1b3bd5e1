"""What a client may wish for when it creates a job: checked in the order of job-service.md 1. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from offloader.errors import InvalidJob
from offloader.images import validate_runner
from offloader.input_rules import check_input
from offloader.models import JobType
from offloader.setting_groups import JobsSettings, NetworkSettings
from offloader.site_rules import why_refused
from offloader.speech_rules import named_endpoints, why_endpoint_refused

_LONGEST_DURATION_S: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class JobWish:
    """What a client sent, of the right types but otherwise unchecked."""

    type: str
    runner: str
    max_duration_s: int
    input_data: Mapping[str, Any] = field(repr=False)
    """With secrets."""


def check_wish(wish: JobWish, *, settings: JobsSettings) -> JobType:
    """Its type. Raises InvalidJob for the first member that cannot be, in the wire's words."""
    if not wish.type:
        raise InvalidJob("invalid Type value: should not be empty")
    check_runner(wish.runner, settings=settings, prefix="invalid Runner value: ")
    if wish.max_duration_s <= 0:
        raise InvalidJob("invalid MaxDurationSec value: should be positive")
    if wish.max_duration_s > _LONGEST_DURATION_S:
        raise InvalidJob(f"invalid MaxDurationSec value: should be at most {_LONGEST_DURATION_S}")
    try:
        job_type = JobType(wish.type)
    except ValueError as error:
        raise InvalidJob(f'invalid Type value: "{wish.type}"') from error
    check_input(wish.input_data)
    check_site(wish.input_data, network=settings.network)
    check_speech(wish.input_data, network=settings.network, prefix="invalid InputData value: ")
    return job_type


def check_site(input_data: Mapping[str, Any], *, network: NetworkSettings) -> None:
    """Raises InvalidJob: the job would connect where the admin does not want it, or no Mattermost can be."""
    for key, value in input_data.items():
        if key.upper() != "SITE_URL":  # however it is written, it becomes that variable
            continue
        if reason := why_refused("" if value is None else str(value), network=network):
            raise InvalidJob(f'invalid InputData value: "{key}" {reason}')


def check_speech(options: Mapping[str, Any], *, network: NetworkSettings, prefix: str) -> None:
    """Raises InvalidJob, its text after `prefix`: speech would go where the admin does not want it."""
    for key, url in named_endpoints(options):
        if reason := why_endpoint_refused(url, allowed=network.allowed_speech):
            raise InvalidJob(f'{prefix}"{key}" {reason}')


def check_runner(runner: str, *, settings: JobsSettings, prefix: str) -> None:
    """Raises InvalidJob, its text after `prefix`: the image is not acceptable."""
    try:
        validate_runner(runner, registry=settings.image_registry, checks=settings.check_runners)
    except InvalidJob as error:
        raise InvalidJob(prefix + str(error)) from error
