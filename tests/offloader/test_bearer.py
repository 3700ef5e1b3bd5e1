"""Bearer headers as clients send them."""

from __future__ import annotations

import pytest

from offloader.bearer import bearer_token, is_bearer_of


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer secret", "secret"),
        ("bearer  secret ", "secret"),
        ("Bearer", ""),
        ("Basic secret", ""),
        ("secret", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_a_token_is_what_follows_the_scheme_and_nothing_else(
    header: str | None, token: str
) -> None:
    assert bearer_token(header) == token
    assert is_bearer_of(header, "secret") is (token == "secret")


def test_no_header_carries_a_key_that_is_empty_and_odd_characters_are_no_error() -> None:
    assert not is_bearer_of("Bearer ", "")
    assert not is_bearer_of(None, "")
    assert not is_bearer_of("Bearer ключ", "secret")
