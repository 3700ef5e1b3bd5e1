from __future__ import annotations

import base64

import pytest

from clientauth.credentials import basic_credentials


def basic(content: bytes) -> str:
    return "Basic " + base64.b64encode(content).decode()


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (basic(b"site:key"), ("site", "key")),
        (basic(b"site:key").replace("Basic", "bAsIc"), ("site", "key")),
        (basic(b"site:a:b"), ("site", "a:b")),
        (basic(b":key"), ("", "key")),
        (basic("wörld:kéy".encode()), ("wörld", "kéy")),
    ],
)
def test_id_and_key_are_on_the_two_sides_of_the_first_colon(
    header: str, found: tuple[str, str]
) -> None:
    assert basic_credentials(header) == found


@pytest.mark.parametrize(
    "header",
    [None, "", "Basic", "Bearer abc", "Basic ü", "Basic %%%", basic(b"nocolon"), basic(b"\xff:k")],
)
def test_what_is_no_basic_authentication_holds_nothing(header: str | None) -> None:
    assert basic_credentials(header) is None
