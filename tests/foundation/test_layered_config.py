"""Defaults, file, environment: the later layer wins, and errors name source, key, value and form."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation.layered_config import ConfigError, Key, load_layers

KEYS = {
    "api.listen": Key("str", ":1", "API_LISTEN"),
    "api.tls": Key("bool", False, "API_TLS"),
    "jobs.limit": Key("int", 2, "JOBS_LIMIT"),
    "jobs.names": Key("list", [], "JOBS_NAMES"),
    "jobs.secret": Key("int", 0, "JOBS_SECRET", secret=True),
}


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text)
    return path


def test_a_missing_file_means_defaults(tmp_path: Path) -> None:
    config = load_layers(KEYS, path=tmp_path / "none.toml", environ={})
    assert config.values["jobs.limit"] == 2
    assert not config.file_found


def test_the_file_wins_over_defaults_and_the_environment_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, '[api]\nlisten = ":2"\ntls = true\n[jobs]\nlimit = 3\n')
    config = load_layers(KEYS, path=path, environ={"JOBS_LIMIT": "4"})
    assert (config.values["api.listen"], config.values["jobs.limit"]) == (":2", 4)
    assert config.sources["api.listen"] == "file"
    assert config.sources["jobs.limit"] == "JOBS_LIMIT"


def test_unknown_keys_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, "[api]\nlisten = ':2'\nlisen = 1\n[other]\nx = 1\n")
    assert load_layers(KEYS, path=path, environ={}).unknown == ("api.lisen", "other.x")


@pytest.mark.parametrize(("text", "value"), [("1", True), ("T", True), ("False", False)])
def test_booleans_take_the_forms_of_the_original(text: str, value: bool) -> None:
    assert load_layers(KEYS, path=None, environ={"API_TLS": text}).values["api.tls"] is value


def test_lists_come_as_json_or_with_commas() -> None:
    for text in ('["a", "b"]', "a, b"):
        assert load_layers(KEYS, path=None, environ={"JOBS_NAMES": text}).values["jobs.names"] == [
            "a",
            "b",
        ]


@pytest.mark.parametrize(
    ("toml", "environ", "message"),
    [
        ("[jobs]\nlimit = 'x'", {}, "jobs.limit = 'x': should be a whole number"),
        ("[jobs]\nlimit = true", {}, "jobs.limit = True: should be a whole number"),
        ("", {"JOBS_LIMIT": "many"}, "JOBS_LIMIT='many': should be a whole number"),
        ("", {"API_TLS": ""}, "API_TLS='': should be true or false"),
        ("", {"JOBS_SECRET": "hunter2"}, r"JOBS_SECRET=\*\*\*: should be"),
        ("[jobs", {}, "not a TOML file"),
        ("[jobs]\nlimit = " + "9" * 5000, {}, "not a TOML file"),
        ("[jobs]\nlimit = " + "[" * 5000, {}, "not a TOML file"),
        ("[jobs]\nlimit = " + "9" * 400, {}, "jobs.limit = 9+: should be a whole number"),
        ("", {"JOBS_LIMIT": "-" + "9" * 400}, "JOBS_LIMIT='-9+': should be a whole number"),
    ],
)
def test_errors_name_source_key_value_and_form(
    tmp_path: Path, toml: str, environ: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_layers(KEYS, path=write(tmp_path, toml), environ=environ)
