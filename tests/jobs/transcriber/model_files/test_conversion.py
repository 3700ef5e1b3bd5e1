"""From safetensors to what the engine loads, without anything that could run what is in a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.transcriber.engines.catalogue import load_engine
from jobs.transcriber.model_files.binary import ModelFileError
from jobs.transcriber.model_files.conversion import convert
from jobs.transcriber.model_files.folder import look_at
from jobs.transcriber.model_files.safetensors import Tensors

Publish = Callable[..., Path]


def test_every_weight_and_token_is_where_the_engine_looks_for_it(
    publish: Publish, known: Path, tmp_path: Path
) -> None:
    convert(publish(), tmp_path / "made", quantization="int8")
    for name in ("model.bin", "config.json", "vocabulary.json", "tokenizer.json"):
        assert (tmp_path / "made" / name).read_bytes() == (known / name).read_bytes()


def test_the_result_is_whole_and_has_a_manifest_and_the_engine_loads_it(
    publish: Publish, tmp_path: Path
) -> None:
    convert(publish(), tmp_path / "made", quantization="float16")
    seen = look_at(tmp_path / "made")
    assert (seen.problems, seen.stored_as) == ((), "float16")
    assert seen.manifest.endswith("SHA256SUMS")
    engine = load_engine(tmp_path / "made", workers=1, threads_per_worker=1)
    assert engine.info.model == "made"


def test_weights_of_half_the_size_and_a_projection_of_its_own_are_taken(
    publish: Publish, weights: dict[str, np.ndarray], tmp_path: Path
) -> None:
    embeddings = weights[
        "model.decoder.token_embedding.weight".replace("token_embedding", "embed_tokens")
    ]
    half = {name.replace(".", "__"): values.astype("float16") for name, values in weights.items()}
    source = publish(**half, proj_out__weight=embeddings.astype("float16"))
    convert(source, tmp_path / "made", quantization="float16")
    assert look_at(tmp_path / "made").problems == ()


def test_bfloat16_and_several_files_are_read(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 0.15625], "<f4")
    for number, dtype in enumerate(("BF16", "F32")):
        data = (
            (values.view("<u4") >> 16).astype("<u2").tobytes() if number == 0 else values.tobytes()
        )
        entry = {"dtype": dtype, "shape": [3], "data_offsets": [0, len(data)]}
        header = json.dumps({f"model.t{number}": entry}).encode()
        file = tmp_path / f"model-{number}.safetensors"
        file.write_bytes(len(header).to_bytes(8, "little") + header + data)
    index = {"weight_map": {f"model.t{n}": f"model-{n}.safetensors" for n in (0, 1)}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    tensors = Tensors(tmp_path)
    assert tensors.take("t0").tolist() == tensors.take("t1").tolist() == values.tolist()


def _write(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def _one_token_more(tokenizer: Path) -> None:
    document = json.loads(tokenizer.read_text())
    added = document["added_tokens"]
    added.append(added[-1] | {"content": "<|one more|>", "id": added[-1]["id"] + 1})
    tokenizer.write_text(json.dumps(document))


def _index(directory: Path, document: dict[str, object]) -> None:
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors.index.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(
            lambda d: (d / "model.safetensors").rename(d / "pytorch_model.bin"),
            marks=pytest.mark.documents("weights-that-are-not-read"),
        ),
        pytest.param(
            lambda d: (d / "model.safetensors").unlink(),
            marks=pytest.mark.documents("weights-that-are-not-read/3"),
        ),
        pytest.param(
            lambda d: _index(d, {}), marks=pytest.mark.documents("weights-that-are-not-read/4")
        ),
        pytest.param(
            lambda d: _index(d, {"weight_map": {"a": "../x.safetensors"}}),
            marks=pytest.mark.documents("weights-that-are-not-read/5"),
        ),
        pytest.param(
            lambda d: _index(d, {"weight_map": {"a": "model-2.safetensors"}}),
            marks=pytest.mark.documents("weights-that-are-not-read/6"),
        ),
        pytest.param(
            lambda d: (d / "config.json").unlink(),
            marks=pytest.mark.documents("a-model-that-is-no-whisper/9"),
        ),
        pytest.param(
            lambda d: (d / "config.json").write_text('{"model_type": "bert"}'),
            marks=pytest.mark.documents("a-model-that-is-no-whisper"),
        ),
        pytest.param(
            lambda d: (d / "config.json").write_text('{"model_type": "whisper"}'),
            marks=pytest.mark.documents("a-model-that-is-no-whisper/2"),
        ),
        pytest.param(
            lambda d: (d / "tokenizer.json").unlink(),
            marks=pytest.mark.documents("a-model-that-is-no-whisper/9"),
        ),
        pytest.param(
            lambda d: (d / "tokenizer.json").write_text("{}"),
            marks=pytest.mark.documents("a-model-that-is-no-whisper/7"),
        ),
        pytest.param(
            lambda d: _one_token_more(d / "tokenizer.json"),
            marks=pytest.mark.documents("a-model-that-is-no-whisper/6"),
        ),
        pytest.param(
            lambda d: (d / "generation_config.json").write_text("{"),
            marks=pytest.mark.documents("a-model-that-is-no-whisper/8"),
        ),
        pytest.param(
            lambda d: (d / "model.safetensors").write_bytes(b"\x80\x04pickle"),
            marks=pytest.mark.documents("weights-that-are-damaged"),
        ),
        pytest.param(
            lambda d: _write(d / "model.safetensors", (99).to_bytes(8, "little") + b"{"),
            marks=pytest.mark.documents("weights-that-are-damaged/2"),
        ),
        pytest.param(
            lambda d: (d / "model.safetensors").write_bytes(
                (d / "model.safetensors").read_bytes()[:-9]
            ),
            marks=pytest.mark.documents("weights-that-are-damaged/5"),
        ),
    ],
)
def test_what_cannot_be_converted_is_named_and_leaves_nothing_behind(
    publish: Publish, tmp_path: Path, spoil: Callable[[Path], object], documented: Any
) -> None:
    source = publish()
    spoil(source)
    with pytest.raises(ModelFileError) as refused:
        convert(source, tmp_path / "made", quantization="int8")
    documented.marked(str(refused.value))
    assert [path.name for path in tmp_path.iterdir()] == ["published"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            {"model__decoder__layers__1__fc1__weight": None},
            marks=pytest.mark.documents("a-model-that-is-no-whisper/4"),
        ),
        pytest.param(
            {"model__classifier__weight": np.ones(2, "f4")},
            marks=pytest.mark.documents("a-model-that-is-no-whisper/3"),
        ),
        pytest.param(
            {"model__encoder__conv1__bias": np.ones(2, "f4")},
            marks=pytest.mark.documents("a-model-that-is-no-whisper/5"),
        ),
    ],
)
def test_tensors_that_are_missing_or_strange_are_named(
    publish: Publish, tmp_path: Path, change: dict[str, np.ndarray | None], documented: Any
) -> None:
    with pytest.raises(ModelFileError) as refused:
        convert(publish(**change), tmp_path / "made", quantization="int8")
    documented.marked(str(refused.value))


@pytest.mark.documents("a-model-that-is-there-already")
def test_a_model_that_is_there_is_never_written_over(
    publish: Publish, converted: Path, documented: Any
) -> None:
    with pytest.raises(ModelFileError) as refused:
        convert(publish(), converted, quantization="int8")
    documented("a-model-that-is-there-already", str(refused.value))


@pytest.mark.documents("weights-that-are-not-read/2")
def test_a_folder_of_the_engine_needs_no_conversion(
    known: Path, tmp_path: Path, documented: Any
) -> None:
    with pytest.raises(ModelFileError) as refused:
        convert(known, tmp_path / "made", quantization="int8")
    documented("weights-that-are-not-read/2", str(refused.value))
