"""The search finds what it is to find, and the payloads would do harm: else the calls prove nothing."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import quote

import pytest

from testbed.canary import Canary, CanarySearch, is_in
from testbed.hostile_traps import write_payload

NAME = "Zoë Qanärytska"
CANARY = Canary("name", NAME)
SENTENCE = Canary("sentence", "thank you everyone the meeting is done", sentence=True)


def zipped(content: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner", content)
    return target.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        NAME.encode(),
        json.dumps(NAME).encode(),
        json.dumps({"line": json.dumps({"name": NAME})}).encode(),
        repr(NAME.encode()).encode(),
        quote(NAME).encode(),
        NAME.encode().hex().encode(),
        NAME.encode("utf-16-le"),
        *(base64.b64encode(b"x" * before + NAME.encode() + b"tail") for before in range(3)),
        base64.urlsafe_b64encode(b"??" + NAME.encode() + b">>"),
        gzip.compress(b"begin " + NAME.encode()),
        zipped(NAME.encode()),
    ],
    ids=(
        [
            "plain",
            "json",
            "nested",
            "repr",
            "url",
            "hex",
            "utf16",
            "base64",
            "base64-1",
            "base64-2",
            "urlsafe",
            "gzip",
            "zip",
        ]
    ),
)
def test_a_name_is_found_however_it_is_written(content: bytes) -> None:
    assert is_in(
        CANARY,
        b"before " + content + b" after" if content[:2] not in (b"PK", b"\x1f\x8b") else content,
    )


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"THANK you everyone", True),
        (b'"everyone","the","meeting"', True),
        (base64.b64encode(b"the meeting is done"), True),
        (b"thank everyone you", False),
        (b"the meetings is done", False),
    ],
)
def test_three_words_of_a_sentence_in_a_row_are_found(content: bytes, found: bool) -> None:
    assert is_in(SENTENCE, content) is found


def test_a_sighting_says_where_and_what_was_looked_at_is_counted() -> None:
    search = CanarySearch([CANARY])
    search.look("logs: a", b"nothing")
    search.look("logs: b", NAME)
    assert [(seen.what, seen.form, seen.place) for seen in search.found] == [
        ("name", "text", "logs: b")
    ]
    assert search.places["logs"] == len(b"nothing") + len(NAME.encode())


@pytest.mark.parametrize(
    ("variable", "value"),
    [("PYTHONPATH", "{payload}"), ("PYTHONUSERBASE", ""), ("BASH_ENV", "{payload}/shell.sh")],
)
def test_what_a_hostile_client_sends_would_run_where_it_is_let_in(
    tmp_path: Path, variable: str, value: str
) -> None:
    marker, payload = tmp_path / "marker", tmp_path / "payload"
    write_payload(payload, marker)
    command = ["bash", "-c", ":"] if variable == "BASH_ENV" else [sys.executable, "-c", ""]
    environ = {"PATH": os.environ["PATH"], variable: value.format(payload=payload)}
    subprocess.run(command, env=environ, check=True, timeout=20)
    assert marker.exists() is bool(value)
