"""docs/troubleshooting.md has whatever error text the code can emit to an admin or a client."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tools import error_texts


@pytest.fixture(scope="module")
def entries() -> str:
    return error_texts.page_texts()


@pytest.mark.parametrize("package", error_texts.PACKAGES)
def test_every_error_text_has_an_entry(package: str, entries: str) -> None:
    """`python -m tools.error_texts PACKAGE` lists them. A new one gets an entry and a test that provokes it;
    what no admin or client can meet gets its reason in internal_errors/PACKAGE.toml."""
    left = [str(text) for text in error_texts.missing(package, entries)]
    assert left == []


@pytest.mark.parametrize("package", error_texts.PACKAGES)
def test_every_reason_is_needed(package: str) -> None:
    texts = error_texts.texts(package)
    idle = [one for one in error_texts.reasons(package) if not any(map(one.fits, texts))]
    assert idle == []


@pytest.mark.parametrize(
    ("source", "texts"),
    [
        ('raise ValueError("no such thing here")', ["no such thing here"]),
        ('raise ValueError(f"no {name} of that kind")', ["no ‹name› of that kind"]),
        ('_ENDS = "with words"\nraise OSError(5, f"{x} ends {_ENDS}")', ["‹x› ends with words"]),
        (
            'def f():\n    text = "this or that"\n    if x:\n        text = f"{x} and that"\n'
            "    raise LookupError(text)",
            ["this or that", "‹x› and that"],
        ),
        ('def wrong(x):\n    return ValueError(f"{x}: should be " + x)', ["‹x›: should be ‹x›"]),
        ('raise KeyError("one thing" if x else "another thing")', ["another thing", "one thing"]),
        (
            "class StoreError(Exception):\n    def __init__(self):\n"
            '        super().__init__("is odd here")',
            ["is odd here"],
        ),
        (
            'class Even(Base):\n    def __init__(self):\n        super().__init__("is even here")',
            [],
        ),
        ('raise ValueError(f"{a}: {b}")', []),
        ('print("not an error text")', []),
    ],
)
def test_texts_are_read_from_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, texts: list[str]
) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "module.py").write_text(textwrap.dedent(source), encoding="utf-8")
    error_texts.exceptions()  # kept from here on: those of the project, whichever test runs first
    monkeypatch.setattr(error_texts, "ROOT", tmp_path)
    found = error_texts.texts.__wrapped__("package")
    assert sorted(text.text for text in found) == texts


@pytest.mark.parametrize(
    ("text", "entry", "same"),
    [
        ("no ‹name› of that kind", "error: no model of that kind here", True),
        ("no ‹name› of that kind", "no ‹model of that› kind", False),
        ("‹a›: should be a map", "x: should be a map", True),
        ("‹a›: should be a map", "x: should be a list", False),
    ],
)
def test_an_entry_has_the_words_of_a_text(text: str, entry: str, same: bool) -> None:
    found = error_texts.Text("offloader/x.py:1", "ValueError", text)
    assert found.is_in(entry) == same
