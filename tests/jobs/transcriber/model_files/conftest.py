"""A made-up Whisper model, as it is published and as the engine loads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tools.random_models import vocabulary
from tools.random_models.converted import write_converted
from tools.random_models.weights import ENGLISH_PROMPT, MELS, Array, Shape, make_weights

SHAPE = Shape(16, 2, 2, ((1, 0), (1, 1)))
_NAMES = {
    "blocks": "layers",
    "attn": "self_attn",
    "cross_attn": "encoder_attn",
    "attn_ln": "self_attn_layer_norm",
    "cross_attn_ln": "encoder_attn_layer_norm",
    "mlp_ln": "final_layer_norm",
    "query": "q_proj",
    "key": "k_proj",
    "value": "v_proj",
    "out": "out_proj",
    "ln_post": "layer_norm",
    "ln": "layer_norm",
    "positional_embedding": "embed_positions.weight",
    "token_embedding": "embed_tokens",
}
_TYPES = {"float32": "F32", "float16": "F16"}


def published_name(name: str) -> str:
    """From OpenAI's name of a tensor to that of Transformers."""
    name = name.replace("mlp.0", "fc1").replace("mlp.2", "fc2")
    return ".".join(["model", *(_NAMES.get(part, part) for part in name.split("."))])


def write_safetensors(path: Path, tensors: dict[str, Array]) -> None:
    header, place = {}, 0
    for name, values in tensors.items():
        header[name] = {
            "dtype": _TYPES[values.dtype.name],
            "shape": values.shape,
            "data_offsets": [place, place + values.nbytes],
        }
        place += values.nbytes
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    data = b"".join(np.ascontiguousarray(values).tobytes() for values in tensors.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


@pytest.fixture(scope="session")
def weights() -> dict[str, Array]:
    """By the names that are published."""
    made = make_weights(SHAPE, prompt_tokens=ENGLISH_PROMPT)
    return {published_name(name): values for name, values in made}


@pytest.fixture(scope="session")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights in the engine's format, written by another way."""
    directory = tmp_path_factory.mktemp("known") / "known"
    write_converted(SHAPE, directory)
    return directory


@pytest.fixture
def publish(tmp_path: Path, weights: dict[str, Array], known: Path) -> Callable[..., Path]:
    """Write a folder as it is published; some of its tensors may differ."""

    def write(**changes: Array | None) -> Path:
        directory = tmp_path / "published"
        directory.mkdir()
        renamed = {name.replace("__", "."): values for name, values in changes.items()}
        tensors = {n: v for n, v in {**weights, **renamed}.items() if v is not None}
        write_safetensors(directory / "model.safetensors", tensors)
        config = {
            "model_type": "whisper",
            "encoder_layers": SHAPE.layers,
            "decoder_layers": SHAPE.layers,
            "encoder_attention_heads": SHAPE.heads,
            "decoder_attention_heads": SHAPE.heads,
            "d_model": SHAPE.state,
            "vocab_size": vocabulary.SIZE,
            "num_mel_bins": MELS,
        }
        (directory / "config.json").write_text(json.dumps(config))
        first, last = vocabulary.END_OF_TEXT + 2, vocabulary.FIRST_TIMESTAMP - 6
        generation = {
            "suppress_tokens": [],
            "begin_suppress_tokens": [vocabulary.END_OF_TEXT],
            "alignment_heads": [list(pair) for pair in SHAPE.alignment_heads],
            "lang_to_id": {str(number): number for number in range(first, last)},
        }
        (directory / "generation_config.json").write_text(json.dumps(generation))
        for name in ("tokenizer.json", "preprocessor_config.json"):
            (directory / name).write_bytes((known / name).read_bytes())
        return directory

    return write


@pytest.fixture
def converted(known: Path, tmp_path: Path) -> Path:
    """A copy of the model in the engine's format, to be spoilt."""
    directory = tmp_path / "models" / "copy"
    directory.mkdir(parents=True)
    for file in known.iterdir():
        (directory / file.name).write_bytes(file.read_bytes())
    return directory
