"""What the documentation shows can be pasted: it parses, and commands exist with these options."""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from offloader.cli.arguments import parser
from offloader.settings import read_settings

ROOT = Path(__file__).parents[2]
SHELL = ("sh", "bash", "shell", "console")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.DOTALL)
_PLACEHOLDER = re.compile(r"[A-Z][A-Z0-9_-]*")
_OPERATORS = frozenset({"&&", "||", ";", "|", "&", "(", ")", "\n"})


def of(blocks: Any, *languages: str) -> list[Any]:
    found = [block for block in blocks if block.language in languages]
    assert found, languages
    return found


def test_toml_is_our_configuration(blocks: Any, tmp_path: Path) -> None:
    wrong = []
    for number, block in enumerate(of(blocks, "toml")):
        path = tmp_path / f"{number}.toml"
        path.write_text(block.text)
        try:
            document = tomllib.loads(block.text)
        except tomllib.TOMLDecodeError as error:
            wrong.append(f"{block}: {error}")
            continue
        if block.file == "docs/sfu.md" or "rtc" in document:
            wrong += _sfu_problems(block, path)
            continue
        reading = read_settings(path, {})
        wrong += [f"{block}: {problem}" for problem in reading.problems]
        wrong += [f"{block}: unknown key {key}" for key in reading.unknown]
    assert not wrong, "\n" + "\n".join(wrong)


def _sfu_problems(block: Any, path: Path) -> list[str]:
    from foundation.layered_config import ConfigError
    from sfu.settings import load_settings

    try:
        settings = load_settings(path, {})
    except ConfigError as error:
        return [f"{block}: {error}"]
    return [f"{block}: unknown key {key}" for key in settings.unknown_keys]


def test_json_and_yaml_parse(blocks: Any) -> None:
    wrong = []
    for block in of(blocks, "json"):
        try:
            json.loads(block.text)
        except ValueError as error:
            wrong.append(f"{block}: {error}")
    for block in of(blocks, "yaml"):
        try:
            list(yaml.safe_load_all(block.text))
        except yaml.YAMLError as error:
            wrong.append(f"{block}: {error}")
    assert not wrong, "\n" + "\n".join(wrong)


def test_shell_is_shell(blocks: Any) -> None:
    shell = of(blocks, *SHELL)
    script = "\n".join(
        f"part_{number}() {{\n:\n{block.text}\n}}" for number, block in enumerate(shell)
    )
    if subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True).returncode == 0:
        return
    wrong = []
    for block in shell:
        done = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True)
        if done.returncode:
            wrong.append(f"{block}: {done.stderr.strip()}")
    assert not wrong, "\n" + "\n".join(wrong)


def _commands(text: str) -> Iterator[list[str]]:
    """The words of each simple command, assignments before it included."""
    text = re.sub(r"\\\n", " ", text)
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        lexer.commenters = "#"
        try:
            words = list(lexer)
        except ValueError:
            continue  # a text over several lines; `bash -n` has seen it
        for is_end, group in itertools.groupby(words, key=lambda word: word in _OPERATORS):
            if not is_end:
                yield list(group)


def _without_prefix(words: list[str]) -> list[str]:
    """Without assignments, `sudo -u USER`, `exec`, `time`."""
    while words:
        if _ASSIGNMENT.fullmatch(words[0]) or words[0] in ("exec", "time", "env", "!"):
            words = words[1:]
        elif words[0] == "sudo":
            words = words[3:] if words[1:2] == ["-u"] else words[1:]
        else:
            break
    return words


@pytest.fixture(scope="session")
def shown(blocks: Any, pages: Any) -> list[tuple[str, list[str]]]:
    """Where, and the words of every command in blocks of code, and of those of ours within lines."""
    found = []
    for block in blocks:
        if block.language in (*SHELL, ""):
            text = block.text
            if not block.language:  # tables of commands, with what they do
                text = re.sub(r"(?<=\S) {3,}[^\\\n]*$", "", text, flags=re.MULTILINE)
            found += [(str(block), _without_prefix(words)) for words in _commands(text)]
    for page in pages:
        if page.file.startswith("docs/") or page.file in ("README.md", "CONTRIBUTING.md"):
            for span in page.spans:
                words = [_without_prefix(words) for words in _commands(span)]
                found += [(page.file, one) for one in words if _is_ours(one)]
    return [(where, words) for where, words in found if words]


def _is_ours(words: list[str]) -> bool:
    return len(words) > 1 and Path(words[0]).name in ("offloader", "make", "helm")


def _variants(words: list[str]) -> Iterator[list[str]]:
    """Commands without the brackets of options, and of `list|show` each one; placeholders become values."""
    cut: list[str] = []
    for word in re.sub(r"[\[\]]", " ", " ".join(words)).split():
        if word.startswith((">", "<")) or "…" in word:
            break
        # One that can be an ID of Mattermost: options of `data` take nothing else.
        value = "1" * 26 if word == "ID" else "1"
        cut.append(value if _PLACEHOLDER.fullmatch(word) else word)
    yield from map(list, itertools.product(*(word.split("|") for word in cut)))


def test_commands_of_the_offloader_exist_with_these_options(
    shown: list[tuple[str, list[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    wrong, tried, ours = [], 0, parser()
    for where, words in shown:
        if Path(words[0]).name not in ("offloader", "calls-offloader") or len(words) == 1:
            continue
        for variant in _variants(words[1:]):
            if not variant or not re.fullmatch(r"-{0,2}[a-z-]+", variant[0]):
                continue
            tried += 1
            try:
                ours.parse_args(variant)
            except SystemExit as ended:
                said = capsys.readouterr().err.strip().splitlines()
                # A mention without its argument (`offloader jobs stop`) is no command to paste.
                if ended.code and not re.search(r"arguments are required|expected one", said[-1]):
                    wrong.append(f"{where}: offloader {' '.join(variant)}: {said[-1]}")
    assert tried > 40
    assert not wrong, "\n" + "\n".join(wrong)


def test_targets_of_make_exist_with_these_variables(shown: list[tuple[str, list[str]]]) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    read = makefile + "".join(
        path.read_text(encoding="utf-8")
        for pattern in (
            "images/*.sh",
            "testbed/demo/*.py",
            "testbed/kubernetes/*.py",
            "packaging/*",
        )
        for path in ROOT.glob(pattern)
        if path.is_file()
    )
    wrong = []
    for where, words in shown:
        if words[0] != "make":
            continue
        for word in words[1:]:
            name, is_variable, _ = word.partition("=")
            if is_variable:
                if not re.search(rf"\b{re.escape(name)}\b", read):
                    wrong.append(f"{where}: nothing reads {name}")
            elif re.fullmatch(r"[a-z][a-z-]*", word) and word not in targets:
                wrong.append(f"{where}: make {word}")
    assert not wrong, "\n" + "\n".join(wrong)


def _has(values: Any, key: str) -> bool:
    """Whether a chart's values have `a.b.c`; below an empty map everything is."""
    for part in re.split(r"(?<!\\)\.", key):
        part = re.sub(r"\[\d+\]", "", part)
        if values in ({}, [], None, "") or isinstance(values, list):
            return True
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def test_values_and_options_of_helm_exist(shown: list[tuple[str, list[str]]]) -> None:
    wrong, tried = [], 0
    for where, words in shown:
        if words[0] != "helm" or words[1:2] not in (["install"], ["upgrade"], ["template"]):
            continue
        tried += 1
        charts = [word for word in words if (ROOT / word / "Chart.yaml").is_file()]
        if where.startswith("helm/"):
            charts.append(str(Path(where.partition(":")[0]).parent))
        if not charts:
            continue
        values = yaml.safe_load((ROOT / charts[0] / "values.yaml").read_text(encoding="utf-8"))
        for option, value in itertools.pairwise(words):
            if option in ("--set", "--set-string", "--set-json"):
                key = value.partition("=")[0]
                if not _has(values, key):
                    wrong.append(f"{where}: {charts[0]} has no value {key}")
        wrong += _unknown_options(where, words)
    assert tried
    assert not wrong, "\n" + "\n".join(wrong)


@cache
def _helps(command: str) -> str:
    done = subprocess.run(
        ["helm", command, "--help"], capture_output=True, text=True, timeout=20, check=True
    )
    return done.stdout


def _unknown_options(where: str, words: list[str]) -> list[str]:
    if shutil.which("helm") is None:
        return []
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    return [f"{where}: {option}" for option in options if f"{option} " not in _helps(words[1])]


def _modules(shown: list[tuple[str, list[str]]]) -> dict[str, dict[str, set[str]]]:
    """Module, with its command if it has some → option → where it is shown, of `python -m MODULE`."""
    found: dict[str, dict[str, set[str]]] = {}
    for where, words in shown:
        for place, word in enumerate(words):
            if word == "-m" and Path(words[place - 1]).name.startswith("python"):
                rest = words[place + 1 :]
                command = [word for word in rest[1:2] if re.fullmatch(r"[a-z]+", word)]
                options = found.setdefault(" ".join([rest[0], *command]), {})
                for option in rest[1:]:
                    if option.startswith("--"):
                        options.setdefault(option.partition("=")[0], set()).add(where)
    return found


def test_modules_that_are_run_exist(shown: list[tuple[str, list[str]]]) -> None:
    modules = {name.split(" ")[0] for name in _modules(shown)} - {"venv", "pip"}
    assert modules
    assert [name for name in sorted(modules) if importlib.util.find_spec(name) is None] == []


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_modules_that_are_run_have_these_options(shown: list[tuple[str, list[str]]]) -> None:
    wrong = []
    for module, options in sorted(_modules(shown).items()):
        if not options or module.split(" ")[0] in ("venv", "pip"):
            continue
        done = subprocess.run(
            [sys.executable, "-m", *module.split(" "), "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        known = set(re.findall(r"--[a-z][a-z0-9-]*", done.stdout + done.stderr))
        wrong += [
            f"{sorted(where)}: {module} {o}" for o, where in options.items() if o not in known
        ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_the_checks_find_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """Commands are cut into words as a shell does, and a misspelt option would be found."""
    words = list(_commands("sudo -u x offloader drain --wait && A=1 make demo # why\n"))
    assert [_without_prefix(one) for one in words] == [
        ["offloader", "drain", "--wait"],
        ["make", "demo"],
    ]
    assert list(_variants(["jobs", "list|stop", "[--safe]"])) == [
        ["jobs", "list", "--safe"],
        ["jobs", "stop", "--safe"],
    ]
    with pytest.raises(SystemExit):
        parser().parse_args(["drain", "--wayt"])
    capsys.readouterr()
    assert not _has({"a": {"b": 1}}, "a.c")
    assert _has({"a": {"b": {}}}, "a.b.c")
    assert isinstance(parser(), argparse.ArgumentParser)
