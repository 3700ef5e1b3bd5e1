"""Is a model whole, and what its manifest says; `offloader models` shows it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.transcriber.model_files.folder import look_at, write_manifest
from offloader.cli.main import main


def test_a_good_model_has_no_problems_and_says_what_it_is(known: Path) -> None:
    seen = look_at(known)
    assert (seen.problems, seen.stored_as, seen.manifest) == ((), "int8", "")
    assert len(seen.hashes["model.bin"]) == 64
    assert seen.size_bytes == sum(file.stat().st_size for file in known.iterdir())


def append(path: Path, data: bytes) -> None:
    path.write_bytes(path.read_bytes() + data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100_000])


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        pytest.param(
            lambda d: (d / "model.bin").write_bytes((d / "model.bin").read_bytes()[:4000]),
            "model.bin: it is cut short",
            marks=pytest.mark.documents("a-model-that-is-damaged"),
        ),
        pytest.param(
            lambda d: (d / "model.bin").write_bytes(b"ggml" * 30),
            "model.bin: it is no file of CTranslate2",
            marks=pytest.mark.documents("a-model-that-is-damaged/3"),
        ),
        pytest.param(
            lambda d: (d / "model.bin").write_bytes(
                struct.pack("<IH", 6, 1) + b"\0" + struct.pack("<II", 1, 1 << 31)
            ),
            "model.bin: it is no file of CTranslate2",
            marks=pytest.mark.documents("a-model-that-is-damaged/2"),
        ),
        pytest.param(
            lambda d: (d / "model.bin").write_bytes((d / "model.bin").read_bytes()[:20]),
            "model.bin: it is cut short or no file of CTranslate2",
            marks=pytest.mark.documents("a-model-that-is-damaged/4"),
        ),
        (lambda d: (d / "model.bin").unlink(), "model.bin is missing"),
        pytest.param(
            lambda d: append(d / "model.bin", b"more"),
            "model.bin: 4 bytes follow its end",
            marks=pytest.mark.documents("a-model-that-is-damaged/5"),
        ),
        (
            lambda d: (d / "tokenizer.json").unlink(),
            "tokenizer.json is missing or no JSON: the engine would",
        ),
        (lambda d: (d / "config.json").write_text("{"), "config.json is missing or no JSON"),
        (
            lambda d: (d / "vocabulary.json").unlink(),
            "vocabulary.json or vocabulary.txt is missing",
        ),
        (
            lambda d: (d / "vocabulary.json").write_text('["a"]'),
            "the vocabulary has 1 tokens, model.bin has",
        ),
        (
            lambda d: (d / "preprocessor_config.json").write_text('{"feature_size": 128}'),
            "preprocessor_config.json: feature_size is 128, model.bin listens to 80 bands",
        ),
    ],
)
def test_what_the_engine_would_stumble_over_is_named(
    converted: Path, spoil: Callable[[Path], object], text: str, documented: Any
) -> None:
    spoil(converted)
    [problem] = look_at(converted).problems
    assert problem.startswith(text)
    documented.marked(problem)


def test_one_changed_bit_and_files_too_many_or_missing_differ_from_the_manifest(
    converted: Path,
) -> None:
    write_manifest(converted)
    assert look_at(converted).problems == ()
    data = bytearray((converted / "model.bin").read_bytes())
    data[-2000] ^= 1
    (converted / "model.bin").write_bytes(data)
    (converted / "new.py").write_text("")
    append(converted / "SHA256SUMS", f"{'0' * 64}  gone.json\n".encode())
    problems = " ".join(look_at(converted).problems)
    for text in (
        "model.bin: its SHA-256 is",
        "new.py is not in the",
        "gone.json is in the manifest, and",
    ):
        assert text in problems


def test_the_command_verifies_against_a_manifest_of_the_admin(
    converted: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_manifest(converted)
    lines = (converted / "SHA256SUMS").read_text().splitlines(keepends=True)
    manifest = tmp_path / "sums"
    manifest.write_text("".join(line.replace("  ", "  ./copy/") for line in lines))
    given = ["models", "verify", "--models-dir", str(converted.parent), "--manifest", str(manifest)]
    assert main(given) == 0
    assert f"copy: good, as {manifest} says" in capfd.readouterr().out
    (converted / "config.json").write_text("{}")
    assert main(given) == 1
    said = capfd.readouterr()
    assert "config.json: its SHA-256 is" in said.out
    assert "copy: should not be used" in said.err


def test_the_command_converts_and_lists(
    publish: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    models = tmp_path / "models"
    models.mkdir()
    source = publish()
    given = ["models", "convert", str(source), "--name", "base", "--models-dir", str(models)]
    assert main([*given, "--quantization", "int8"]) == 0
    assert main(given) == 1
    assert "is there already" in capfd.readouterr().err
    assert main(["models", "list", "--models-dir", str(models), "--json"]) == 0
    [model] = json.loads(capfd.readouterr().out)["models"]
    assert (model["name"], model["stored_as"], model["problems"]) == ("base", "int8", [])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["list"], "no directory of models is configured"),
        (["list", "--models-dir", "/nowhere"], "/nowhere: no such directory"),
        pytest.param(
            ["verify", "tiny", "--models-dir", "."],
            "tiny: no such model",
            marks=pytest.mark.documents("a-model-that-is-not-there"),
        ),
    ],
)
def test_what_is_missing_is_named(
    arguments: list[str],
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    documented: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MODELS_DIR", raising=False)
    assert main(["models", *arguments]) == 1
    said = capfd.readouterr().err
    assert text in said
    documented.marked(said.partition(": ")[2] if said.startswith("error") else said)
