"""A name typed into the page becomes an account that jobs can name."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.plugin.guests import MAX_ACCOUNTS, NameRefused, add_guest
from testbed.plugin.world import World


@pytest.mark.parametrize(
    ("name", "first", "last", "username"),
    [
        ("Jane Doe", "Jane", "Doe", "jane.doe"),
        ("  Ana  María   López ", "Ana María", "López", "ana.maría.lópez"),
        ("Zoë", "", "", "Zoë"),
        ("山田", "", "", "山田"),
        ("<b>Max</b>", "", "", "bMaxb"),
        ("Jane\tDoe\n", "Jane", "Doe", "jane.doe"),
    ],
)
def test_a_name_is_shown_as_it_was_typed(name: str, first: str, last: str, username: str) -> None:
    world = World.create()
    user = add_guest(world, name)
    assert (user.first_name, user.last_name, user.username) == (first, last, username)
    assert world.by_token(user.token) is user


def test_two_of_the_same_name_are_two_people_and_nobody_becomes_the_bot() -> None:
    world = World.create()
    names = [add_guest(world, name).username for name in ("Jane", "Jane", "calls", "alice")]
    assert names == ["Jane", "Jane-2", "calls-2", "alice-2"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(7, marks=pytest.mark.documents("a-name-that-the-demos-page-does-not-take")),
        pytest.param("", marks=pytest.mark.documents("a-name-that-the-demos-page-does-not-take/2")),
        pytest.param(
            " -- \x00", marks=pytest.mark.documents("a-name-that-the-demos-page-does-not-take/2")
        ),
        pytest.param(
            "x" * 65, marks=pytest.mark.documents("a-name-that-the-demos-page-does-not-take/3")
        ),
    ],
)
def test_what_is_no_name_is_refused(name: object, documented: Any) -> None:
    with pytest.raises(NameRefused) as refused:
        add_guest(World.create(), name)
    documented.marked(str(refused.value))


@pytest.mark.documents("a-name-that-the-demos-page-does-not-take/4")
def test_there_is_an_end_to_accounts(documented: Any) -> None:
    world = World.create()
    while len(world.users) < MAX_ACCOUNTS:
        add_guest(world, "Jane")
    with pytest.raises(NameRefused) as refused:
        add_guest(world, "Jane")
    documented("a-name-that-the-demos-page-does-not-take/4", str(refused.value))
