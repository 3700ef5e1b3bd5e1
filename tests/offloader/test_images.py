from __future__ import annotations

import pytest

from offloader.errors import InvalidJob
from offloader.images import validate_runner


@pytest.mark.parametrize(
    "runner",
    [
        "mattermost/calls-recorder:v0.6.0",
        "mattermost/calls-recorder:v0.8.13",
        "mattermost/calls-recorder:v1.0.0",
        "mattermost/calls-recorder:v0.8.13-dev",
        "mattermost/calls-recorder:v0.8.13-dev42",
        "mattermost/calls-transcriber:v0.1.0",
    ],
)
def test_runners_of_the_registry_from_the_minimum_version_on_are_accepted(runner: str) -> None:
    validate_runner(runner, registry="mattermost", checks=True)


@pytest.mark.parametrize(
    ("runner", "text"),
    [
        ("", "runner should not be empty"),
        *(
            (bad, f'failed to validate runner "{bad}"')
            for bad in (
                "mattermost/calls-recorder",
                "mattermost/calls-recorder:0.8.13",
                "mattermost/calls-recorder:v0.8",
                "mattermost/calls-recorder:v0.8.13-rc1",
                "mattermost/calls-recorder:latest",
                "mattermost/calls-recorder@sha256:" + "a" * 64,
                "mattermost/calls-recorder:v0.8.13\n",
                "mattermost/calls-other:v1.0.0",
                "evil/mattermost/calls-recorder:v0.8.13",
                "mattermosd/calls-recorder:v0.8.13",
                "mattermost/calls-recorder:v" + "9" * 5000 + ".0.0",
            )
        ),
        (
            "mattermost/calls-recorder:v0.1.0",
            "actual version (0.1.0) is lower than minimum supported version (0.6.0)",
        ),
        (
            "mattermost/calls-transcriber:v0.0.9",
            "actual version (0.0.9) is lower than minimum supported version (0.1.0)",
        ),
    ],
)
def test_other_runners_are_refused_with_the_wires_text(runner: str, text: str) -> None:
    with pytest.raises(InvalidJob) as refused:
        validate_runner(runner, registry="mattermost", checks=True)
    assert str(refused.value) == text


def test_the_registry_is_taken_literally_and_must_not_be_empty() -> None:
    validate_runner(
        "my.registry:5000/x/calls-recorder:v1.0.0", registry="my.registry:5000/x", checks=True
    )
    with pytest.raises(InvalidJob, match="failed to validate"):
        validate_runner("myxregistry/calls-recorder:v1.0.0", registry="my.registry", checks=True)
    with pytest.raises(InvalidJob, match=r"^registry should not be empty$"):
        validate_runner("mattermost/calls-recorder:v1.0.0", registry="", checks=True)


def test_without_checks_any_name_will_do_but_none_will_not() -> None:
    validate_runner("calls-recorder:master", registry="mattermost", checks=False)
    with pytest.raises(InvalidJob, match=r"^runner should not be empty$"):
        validate_runner("", registry="mattermost", checks=False)
