"""Whatever keeps a job from being created, people read one short sentence without technical words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offloader.failures import _LAUNCH, _REFUSED
from offloader.plain_refusal import LONGEST, PREFIX, refusal_text
from tests.conftest import documented_texts

SEEN = re.compile(
    r"://|\d{1,3}(\.\d{1,3}){3}|\[?[0-9a-f]{1,4}:[0-9a-f:]{2,}|hush-host|/var/|exit code|\berrno\b",
    re.I,
)
TECHNICAL = (
    *(
        "https://hush-host.example.com:8065/x",
        "redis://:**@hush-host:6379/0",
        "10.0.0.7",
        "fe80::1:2",
    ),
    *(
        "hush-host.svc.cluster.local",
        "/var/lib/hush-host",
        "exit code 137",
        "[Errno 111]",
    ),
)
WORDS = (
    *(
        "max concurrent jobs reached",
        "not enough disk:",
        "the service is",
        "no worker takes",
        "refused",
    ),
    *(
        "its launch took so long",
        "image cannot be pulled",
        "worker",
        "cannot be reached",
        "\n",
        "ü",
        "",
    ),
)


def check(text: str) -> None:
    assert len(text) <= LONGEST, text
    assert text.startswith(PREFIX)
    assert len(text) > len(PREFIX)
    assert not SEEN.search(text.removeprefix(PREFIX)), text


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(TECHNICAL + WORDS) | st.text(max_size=40), max_size=12))
def test_no_reason_shows_an_address_a_host_or_a_code_whatever_is_in_it(parts: list[str]) -> None:
    text = refusal_text(" ".join(parts))
    assert len(text) <= LONGEST
    assert not any(word in text for word in TECHNICAL), (parts, text)


def test_a_host_of_one_word_is_not_told_either() -> None:
    """None of our own reasons, which are told as they are, has a name from elsewhere in it."""
    for reason in ("hush-host: Connection refused", "no worker takes it but hush-host"):
        assert "hush-host" not in refusal_text(reason)


def test_every_reason_that_is_documented_and_every_cause_is_told_so() -> None:
    for emitted in documented_texts().values():
        check(
            refusal_text(emitted.removeprefix(PREFIX).replace("\u2039", "").replace("\u203a", ""))
        )
    for rule in (*_REFUSED, *_LAUNCH):
        check(PREFIX + rule.cause)


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("max concurrent jobs reached", "max concurrent jobs reached"),
        (
            "max concurrent jobs reached: this client has 1 calls in progress, as many as it may "
            "(jobs.client_limits.slots)",
            "max concurrent jobs reached: this client has 1 calls in progress, as many as it may "
            "(jobs.client_limits.slots)",
        ),
        (
            "max concurrent jobs reached: no host takes jobs now: the service's /readyz says why",
            "max concurrent jobs reached",
        ),
        ("the service is shutting down", "the service is shutting down"),
        ("the service is at 10.0.0.7", "it could not be started"),
        (
            "the broker redis://:**@10.0.0.7:6379/0 cannot be used: Error 111 connecting",
            "it could not be started",
        ),
        ("worker hush-host: no such program", "it could not be started"),
        (
            "no worker takes recording jobs: hush-host is draining",
            "what runs jobs cannot be reached",
        ),
        (
            "docker: No such image: registry.example.com/calls-recorder:v1",
            "its image is not there and could not be fetched",
        ),
    ],
)
def test_what_helps_them_stays_and_the_rest_is_put_plainly(reason: str, told: str) -> None:
    assert refusal_text(reason) == PREFIX + told
    check(refusal_text(reason))
