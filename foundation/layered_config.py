"""Configuration in three layers: defaults, a TOML file, environment variables. The later layer wins.

Each service declares its keys as a table of `Key`; this module only reads, converts and reports. What
values are allowed is the service's own business.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

Kind = Literal["str", "bool", "int", "float", "size", "list", "table", "any"]

_TRUE: Final = frozenset({"1", "t", "true"})
_FALSE: Final = frozenset({"0", "f", "false"})
_LARGEST_NUMBER: Final = 2**63 - 1
"""As of TOML's integers."""
_WANTED: Final = {
    "str": "a text",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "size": "a number of bytes, or a text such as 500MiB or 5GiB",
    "list": "a list",
    "table": "a table",
    "any": "anything",
}


class ConfigError(ValueError):
    """A setting cannot be used; the message names its source, key, value and the wanted form."""


@dataclass(frozen=True, slots=True)
class Key:
    """One setting."""

    kind: Kind
    default: Any
    env: str | None = None
    """Full name of the environment variable, or None when there is none."""
    help: str = ""
    """One sentence for the generated documentation: meaning, unit, why this default."""
    secret: bool = False
    """Its value is never shown."""
    words: tuple[str, ...] = ()
    """Texts that are taken in place of a value of its kind, such as `auto`."""

    @property
    def wanted(self) -> str:
        """What a value should be, for errors."""
        return " or ".join([_WANTED[self.kind], *(f'"{word}"' for word in self.words)])


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a setting cannot be used."""

    place: str
    """The file, `environment NAME`, or what was not set."""
    key: str
    """Dotted name; empty when the file as a whole cannot be read."""
    value: str
    """As it can be shown: `***` for a secret."""
    text: str
    """What it should be."""
    line: str
    """All of it in one line."""

    def __str__(self) -> str:
        return self.line


@dataclass(frozen=True, slots=True)
class LayeredConfig:
    """What was read."""

    values: Mapping[str, Any]
    """Every declared key by its dotted name."""
    unknown: tuple[str, ...] = ()
    """Dotted names that the file has and nobody declared."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where each value came from: `default`, `file` or the variable's name."""
    file_found: bool = False
    problems: tuple[Problem, ...] = ()
    """Values that are not of their kind; `values` has the default instead."""


def load_layers(
    keys: Mapping[str, Key], *, path: Path | None, environ: Mapping[str, str]
) -> LayeredConfig:
    """`read_layers`, whose first problem is an error.

    Raises:
        ConfigError: unreadable TOML, or a value of the wrong type.
    """
    config = read_layers(keys, path=path, environ=environ)
    if config.problems:
        raise ConfigError(str(config.problems[0]))
    return config


def read_layers(
    keys: Mapping[str, Key], *, path: Path | None, environ: Mapping[str, str]
) -> LayeredConfig:
    """Read `path` (a missing file means defaults) and `environ` over the defaults of `keys`.

    Booleans in the environment take Go's ParseBool forms in any letter case; lists and tables are JSON,
    lists also comma-separated.
    """
    values: dict[str, Any] = {name: key.default for name, key in keys.items()}
    sources = dict.fromkeys(keys, "default")
    problems: list[Problem] = []
    document, found = _read_file(path, problems)
    flat = _flatten(document, keys)
    groups = {name for name in flat if any(known.startswith(name + ".") for known in keys)}
    for name, value in flat.items():
        if name in keys:
            key = keys[name]
            if _fits(value, key):
                values[name] = value
                sources[name] = "file"
            else:
                problems.append(_wrong_in_file(str(path), name, _shown(value, key), key.wanted))
        elif name in groups:
            problems.append(_wrong_in_file(str(path), name, repr(value), _WANTED["table"]))
    for name, key in keys.items():
        if key.env is not None and key.env in environ:
            text = environ[key.env]
            try:
                values[name] = text if text in key.words else _parse(text, key.kind)
                sources[name] = key.env
            except (ValueError, RecursionError):
                problems.append(_wrong_in_environment(name, key, text))
    unknown = tuple(name for name in flat if name not in keys and name not in groups)
    return LayeredConfig(values, unknown, sources, found, tuple(problems))


def _read_file(path: Path | None, problems: list[Problem]) -> tuple[dict[str, Any], bool]:
    try:
        if path is None or not path.exists():
            return {}, False
        return tomllib.loads(path.read_text(encoding="utf-8")), True
    except (ValueError, RecursionError) as error:
        # Of TOML or of UTF-8; also a number of thousands of digits, or lists in lists without end.
        text = f"not a TOML file: {error}"
    except OSError as error:
        text = f"cannot be read: {error.strerror}"
    problems.append(Problem(str(path), "", "", text, f"{path}: {text}"))
    return {}, True


def _wrong_in_file(place: str, name: str, shown: str, wanted: str) -> Problem:
    text = f"should be {wanted}"
    return Problem(place, name, shown, text, f"{place}: {name} = {shown}: {text}")


def _wrong_in_environment(name: str, key: Key, value: str) -> Problem:
    text, shown = f"should be {key.wanted}", _shown(value, key)
    line = f"environment: {key.env}={shown}: {text}"
    return Problem(f"environment {key.env}", name, shown, text, line)


def _flatten(
    document: Mapping[str, Any], keys: Mapping[str, Key], prefix: str = ""
) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in document.items():
        dotted = prefix + name
        if isinstance(value, dict) and dotted not in keys:
            flat |= _flatten(value, keys, dotted + ".")
        else:
            flat[dotted] = value
    return flat


def _fits(value: Any, key: Key) -> bool:
    accepted: dict[str, tuple[type, ...]] = {
        "str": (str,),
        "bool": (bool,),
        "int": (int,),
        "float": (int, float),
        "size": (int, str),
        "list": (list,),
        "table": (dict,),
        "any": (object,),
    }
    if isinstance(value, str) and value in key.words:
        return True
    wrong_bool = isinstance(value, bool) and key.kind in ("int", "float", "size")
    return not wrong_bool and isinstance(value, accepted[key.kind]) and _is_usable(value)


def _is_usable(value: Any) -> bool:
    """No whole number that no sum with a fraction can take."""
    return not isinstance(value, int) or -_LARGEST_NUMBER <= value <= _LARGEST_NUMBER


def _parse(text: str, kind: Kind) -> Any:
    match kind:
        case "str" | "any" | "size":
            return text
        case "int":
            if not re.fullmatch(r"[+-]?\d+", text):
                raise ValueError(text)
            number = int(text)
            if not _is_usable(number):
                raise ValueError(text)
            return number
        case "float":
            return float(text)
        case "bool":
            folded = text.lower()
            if folded in _TRUE:
                return True
            if folded in _FALSE:
                return False
            raise ValueError(text)
        case "list":
            if text.lstrip().startswith("["):
                return json.loads(text)
            return [part.strip() for part in text.split(",") if part.strip()]
        case "table":
            value = json.loads(text)
            if not isinstance(value, dict):
                raise ValueError(text)
            return value


def _shown(value: Any, key: Key) -> str:
    return "***" if key.secret else repr(value)
