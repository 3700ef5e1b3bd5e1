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

Kind = Literal["str", "bool", "int", "float", "list", "table", "any"]

_TRUE: Final = frozenset({"1", "t", "true"})
_FALSE: Final = frozenset({"0", "f", "false"})
_WANTED: Final = {
    "str": "a text",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
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


def load_layers(
    keys: Mapping[str, Key], *, path: Path | None, environ: Mapping[str, str]
) -> LayeredConfig:
    """Read `path` (a missing file means defaults) and `environ` over the defaults of `keys`.

    Booleans in the environment take Go's ParseBool forms in any letter case; lists and tables are JSON,
    lists also comma-separated.

    Raises:
        ConfigError: unreadable TOML, or a value of the wrong type.
    """
    values: dict[str, Any] = {name: key.default for name, key in keys.items()}
    sources = dict.fromkeys(keys, "default")
    document, found = _read_file(path)
    flat = _flatten(document, keys)
    for name, value in flat.items():
        if name in keys:
            values[name] = _from_file(value, keys[name], name, path)
            sources[name] = "file"
    for name, key in keys.items():
        if key.env is not None and key.env in environ:
            values[name] = _from_env(environ[key.env], key)
            sources[name] = key.env
    unknown = tuple(name for name in flat if name not in keys)
    return LayeredConfig(values, unknown, sources, found)


def _read_file(path: Path | None) -> tuple[dict[str, Any], bool]:
    if path is None or not path.exists():
        return {}, False
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")), True
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


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


def _from_file(value: Any, key: Key, name: str, path: Path | None) -> Any:
    accepted: dict[str, tuple[type, ...]] = {
        "str": (str,),
        "bool": (bool,),
        "int": (int,),
        "float": (int, float),
        "list": (list,),
        "table": (dict,),
        "any": (object,),
    }
    wrong_bool = isinstance(value, bool) and key.kind in ("int", "float")
    if wrong_bool or not isinstance(value, accepted[key.kind]):
        raise ConfigError(f"{path}: {name} = {_shown(value, key)}: should be {_WANTED[key.kind]}")
    return value


def _from_env(text: str, key: Key) -> Any:
    try:
        return _parse(text, key.kind)
    except ValueError as error:
        raise ConfigError(
            f"environment: {key.env}={_shown(text, key)}: should be {_WANTED[key.kind]}"
        ) from error


def _parse(text: str, kind: Kind) -> Any:
    match kind:
        case "str" | "any":
            return text
        case "int":
            if not re.fullmatch(r"[+-]?\d+", text):
                raise ValueError(text)
            return int(text)
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
