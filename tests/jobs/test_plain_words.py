"""People in a call read one plain sentence and the job's ID; addresses, hosts and codes stay in the log."""

from __future__ import annotations

import re
from typing import Any

import pytest

from jobs.plain_words import LONGEST, for_people

ID = "67t5u6cmtfbb7jug739d43xa9e"


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("the call is full", "the call is full"),
        pytest.param(
            "not in the call within 20 s",
            "not in the call within 20 s",
            marks=pytest.mark.documents("a-start-that-took-too-long"),
        ),
        (
            "the recording ended early: its disk is full",
            "the recording ended early: its disk is full",
        ),
        pytest.param(
            "no media connection within 10 s; pairs tried: udp 10.0.0.7:41000 → 192.0.2.1:8443 failed",
            "the call's sound and picture could not be reached",
            marks=pytest.mark.documents("sound-and-picture-could-not-be-reached"),
        ),
        pytest.param(
            "the name of https://chat.example.com does not resolve",
            "Mattermost could not be reached",
            marks=pytest.mark.documents("mattermost-could-not-be-reached"),
        ),
        pytest.param(
            "the server answered with HTTP 401",
            "Mattermost did not accept the job's credentials",
            marks=pytest.mark.documents("credentials-that-were-not-accepted"),
        ),
        pytest.param(
            "GET /plugins/x/bot: refused with HTTP 502",
            "Mattermost refused a request of the job",
            marks=pytest.mark.documents("a-request-that-was-refused"),
        ),
        ("POST /plugins/x: refused with HTTP 403", "Mattermost refused a request of the job"),
        ("cannot load the model in /models/base: x", "the speech model could not be loaded"),
        pytest.param(
            "the server's certificate is not trusted (self-signed): TLS_CA_CERT_FILE can name a private CA",
            "the connection to Mattermost is not trusted",
            marks=pytest.mark.documents("a-connection-that-is-not-trusted"),
        ),
        pytest.param(
            "failed to create Transcriber: no model 'base' in /models (a folder base with model.bin)",
            "the speech model that was asked for is not there",
            marks=pytest.mark.documents("a-speech-model-that-is-not-there"),
        ),
        pytest.param(
            "/data/67t5/x: No space left on device",
            "its disk is full",
            marks=pytest.mark.documents("a-disk-that-is-full"),
        ),
        pytest.param(
            "it ended with exit code 7",
            "it met a problem that its log tells of",
            marks=pytest.mark.documents("a-problem-that-the-log-tells-of"),
        ),
        ("[Errno 13] Permission denied: '/data/x'", "its files could not be written"),
        ("cannot make '/data/x'", "it met a problem that its log tells of"),
        ("chat.bücher.example.рф is away", "it met a problem that its log tells of"),
        ("rtcd-0.calls.svc is away", "it met a problem that its log tells of"),
        ("[fe80::1]:8443 is away", "it met a problem that its log tells of"),
        (
            "the site's name leads to an address that no job connects to: 169.254.1.1",
            "jobs may not connect to this site's address",
        ),
        ("", "it met a problem that its log tells of"),
    ],
)
def test_a_reason_is_told_without_its_technical_part(
    reason: str, told: str, documented: Any
) -> None:
    text = for_people(reason, job_id=ID)
    assert text == f"{told} (job {ID})"
    documented.marked(text)


def test_a_long_reason_is_cut_at_a_word_and_the_id_stays() -> None:
    text = for_people("words and more " * 40, job_id=ID)
    assert len(text) <= LONGEST
    assert text.endswith(f" … (job {ID})")


def test_every_documented_reason_is_told_without_an_address_a_host_or_a_code(
    documented_texts: dict[str, str],
) -> None:
    shown = re.compile(r"://|\d{1,3}(\.\d{1,3}){3}|example\.(com|org)|\bcode \d|\berrno\b", re.I)
    for emitted in documented_texts.values():
        text = for_people(emitted.replace("‹", "").replace("›", ""), job_id=ID)
        assert len(text) <= LONGEST, text
        assert not shown.search(text), text
