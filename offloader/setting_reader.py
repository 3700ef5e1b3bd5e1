"""Gives the values of the layers out, and collects every complaint about them with its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from foundation.layered_config import LayeredConfig, Problem
from offloader.setting_keys import KEYS
from offloader.setting_values import parse_retention, parse_size

Value = TypeVar("Value")


class Reader:
    """One reading. A complaint does not stop it: what is returned then is a stand-in, and whoever reads
    throws the result away when there are `problems`."""

    def __init__(self, config: LayeredConfig, path: Path, *, defaults: Mapping[str, Any]) -> None:
        """`defaults`: of the keys whose default depends on the machine."""
        self._config = config
        self._path = path
        self._defaults = defaults
        self.problems: list[Problem] = list(config.problems)

    def __getitem__(self, name: str) -> Any:
        value = self._config.values[name]
        return self._defaults[name] if value is None else value

    def given(self, name: str) -> bool:
        """Whether file or environment say something about it."""
        return self._config.sources[name] != "default"

    def group(self, prefix: str) -> Mapping[str, Any]:
        """The values below `prefix`, by their last name."""
        names = [name for name in self._config.values if name.startswith(prefix)]
        return MappingProxyType({n.removeprefix(prefix): self[n] for n in names})

    def text(self, name: str, field_name: str) -> str:
        """A text that must not be empty."""
        value = str(self[name])
        if not value.strip():
            self.complain(name, f"invalid {field_name} value: should not be empty")
        return value

    def at_least(self, name: str, least: float, *, below: float = 2**31) -> float:
        """A number in [least, below)."""
        value = float(self[name])
        if not least <= value < below:
            self.complain(name, f"{self[name]}: should be a number that is at least {least:g}")
        return value

    def whole(self, name: str, least: int, most: int) -> int:
        """A whole number in [least, most]."""
        value = int(self[name])
        if not least <= value <= most:
            self.complain(name, f"{self[name]}: should be a whole number from {least} to {most}")
        return value

    def parsed(self, name: str, parse: Callable[[Any], Value], *, stand_in: Value) -> Value:
        """What `parse` makes of the value; its ValueError becomes a complaint."""
        try:
            return parse(self[name])
        except ValueError as error:
            self.complain(name, str(error))
            return stand_in

    def size(self, name: str, *, least: int = 0, or_zero: bool = False) -> int:
        """A size in bytes; `or_zero`: 0 is fine though it is less than `least`."""
        size = self.parsed(name, parse_size, stand_in=least)
        if size < least and not (or_zero and size == 0):
            self.complain(name, f"{self[name]!r}: should be at least {least} bytes")
        return size

    def retention(self, name: str) -> timedelta | None:
        """A time to keep something; None: for ever."""
        return self.parsed(name, parse_retention, stand_in=None)

    def complain(self, name: str, text: str) -> None:
        """Add a problem of the value of `name`."""
        if any(problem.key == name for problem in self.problems):
            return  # of the wrong type already: what was checked is the stand-in
        key = KEYS[name]
        source = self._config.sources[name]
        places = {"file": str(self._path), "default": f"not set in {self._path} or {key.env}"}
        place = places.get(source, f"environment {source}")
        shown = "***" if key.secret else repr(self[name])
        self.problems.append(Problem(place, name, shown, text, f"{place}: {name}: {text}"))
