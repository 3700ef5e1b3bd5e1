"""Bearer headers as clients send them."""

from __future__ import annotations

import pytest

from offloader.bearer import bearer_token


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
