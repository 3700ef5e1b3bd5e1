"""From a Whisper model as it is published (Transformers' layout, safetensors) to what the engine loads.

Needs nothing but CTranslate2's own description of the model, numpy and tokenizers: neither PyTorch nor
Transformers, nor a network. Names of tensors are those of `WhisperForConditionalGeneration`, the layout of
the result is `ctranslate2.specs.WhisperSpec`.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from jobs.transcriber.model_files.binary import ModelFileError
from jobs.transcriber.model_files.folder import write_manifest
from jobs.transcriber.model_files.safetensors import Array, Tensors

QUANTIZATIONS: Final = ("float16", "int8", "float32")
_COPIED: Final = ("tokenizer.json", "preprocessor_config.json")
_TIMESTAMP_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class _Shape:
    """Of `config.json`."""

    encoder_layers: int
    encoder_attention_heads: int
    decoder_layers: int
    decoder_attention_heads: int
    d_model: int
    vocab_size: int
    num_mel_bins: int


def convert(source: Path, target: Path, *, quantization: str) -> None:
    """Write `target`, which must not exist, and a manifest in it. Blocks: seconds to minutes.

    `quantization`: how weights are stored, one of `QUANTIZATIONS`; the engine computes as the device does it
    best, anyway.

    Raises:
        ModelFileError: `source` is no such model, or not complete; the text names the file.
        OSError: something cannot be read or written.
    """
    if target.exists():
        raise ModelFileError(f"{target} is there already: choose another name, or remove it first")
    if not source.is_dir():
        raise ModelFileError(f"{source}: no such directory")
    tensors = Tensors(source)
    shape = _shape(source)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    unfinished.mkdir(parents=True)
    try:
        spec = _spec(tensors, shape, "float16" if quantization == "float16" else "float32")
        if left := [name for name in tensors.left if name != "proj_out.weight"]:
            raise ModelFileError(f"the tensor {left[0]} belongs to no Whisper model")
        spec.register_vocabulary(_vocabulary(source, shape))
        _configure(spec.config, source, shape)
        spec.validate()
        spec.optimize(quantization=quantization)
        spec.save(str(unfinished))
        for name in _COPIED:
            if (source / name).is_file():
                shutil.copyfile(source / name, unfinished / name)
        write_manifest(unfinished)
        unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _shape(source: Path) -> _Shape:
    config = _document(source, "config.json")
    if config.get("model_type") != "whisper":
        kind = config.get("model_type", "nothing")
        raise ModelFileError(f"config.json: model_type is {kind!r}, should be 'whisper'")
    values = {}
    for name in _Shape.__dataclass_fields__:
        value = config.get(name, 80 if name == "num_mel_bins" else None)
        if not (isinstance(value, int) and 0 < value < 1 << 20):
            raise ModelFileError(f"config.json: {name} is {value!r}, should be a number above 0")
        values[name] = value
    return _Shape(**values)


def _spec(tensors: Tensors, shape: _Shape, kind: str) -> Any:
    from ctranslate2.specs import WhisperSpec

    heads = (shape.encoder_attention_heads, shape.decoder_attention_heads)
    spec: Any = WhisperSpec(shape.encoder_layers, heads[0], shape.decoder_layers, heads[1])
    weights = _Weights(tensors, kind)
    width = shape.d_model
    for name, channels in (("conv1", shape.num_mel_bins), ("conv2", width)):
        conv = getattr(spec.encoder, name)
        conv.weight = weights.of(f"encoder.{name}.weight", (width, channels, 3))
        conv.bias = weights.of(f"encoder.{name}.bias", (width,))
    for side in ("encoder", "decoder"):
        coder = getattr(spec, side)
        coder.position_encodings.encodings = weights.of(f"{side}.embed_positions.weight")
        _norm(coder.layer_norm, weights, f"{side}.layer_norm")
        for number, layer in enumerate(coder.layer):
            _layer(layer, weights, f"{side}.layers.{number}", crossed=side == "decoder")
    embeddings = weights.of("decoder.embed_tokens.weight", (shape.vocab_size, width))
    spec.decoder.embeddings.weight = embeddings
    spec.decoder.projection.weight = embeddings
    if "proj_out.weight" in tensors:
        spec.decoder.projection.weight = weights.of("proj_out.weight", (shape.vocab_size, width))
    return spec


class _Weights:
    """Tensors in the type that the result is to have."""

    def __init__(self, tensors: Tensors, kind: str) -> None:
        self._tensors = tensors
        self._kind = kind

    def of(self, name: str, shape: tuple[int, ...] | None = None) -> Array:
        return self._tensors.take(name, shape).astype(self._kind)

    def joined(self, name: str, parts: tuple[str, ...]) -> tuple[Array, Array]:
        """Weights and biases of several projections below each other; keys have no bias."""
        weights = [self.of(f"{name}.{part}.weight") for part in parts]
        biases = [
            self.of(f"{name}.{part}.bias")
            if f"{name}.{part}.bias" in self._tensors
            else np.zeros(len(weight), self._kind)
            for part, weight in zip(parts, weights, strict=True)
        ]
        return np.concatenate(weights), np.concatenate(biases)


def _layer(target: Any, weights: _Weights, name: str, *, crossed: bool) -> None:
    attention = target.self_attention
    _norm(attention.layer_norm, weights, f"{name}.self_attn_layer_norm")
    joined, out = attention.linear
    joined.weight, joined.bias = weights.joined(f"{name}.self_attn", ("q_proj", "k_proj", "v_proj"))
    _linear(out, weights, f"{name}.self_attn.out_proj")
    if crossed:
        attention = target.attention
        _norm(attention.layer_norm, weights, f"{name}.encoder_attn_layer_norm")
        query, joined, out = attention.linear
        _linear(query, weights, f"{name}.encoder_attn.q_proj")
        joined.weight, joined.bias = weights.joined(f"{name}.encoder_attn", ("k_proj", "v_proj"))
        _linear(out, weights, f"{name}.encoder_attn.out_proj")
    _norm(target.ffn.layer_norm, weights, f"{name}.final_layer_norm")
    _linear(target.ffn.linear_0, weights, f"{name}.fc1")
    _linear(target.ffn.linear_1, weights, f"{name}.fc2")


def _linear(target: Any, weights: _Weights, name: str) -> None:
    target.weight, target.bias = weights.of(f"{name}.weight"), weights.of(f"{name}.bias")


def _norm(target: Any, weights: _Weights, name: str) -> None:
    target.gamma, target.beta = weights.of(f"{name}.weight"), weights.of(f"{name}.bias")


def _vocabulary(source: Path, shape: _Shape) -> list[str]:
    """Every token in its place; timestamps that the tokenizer does not name are added, as others do."""
    from tokenizers import Tokenizer

    _document(source, "tokenizer.json")
    try:
        vocabulary = Tokenizer.from_file(str(source / "tokenizer.json")).get_vocab()
    except Exception as error:  # noqa: BLE001 - tokenizers raises no class of its own
        raise ModelFileError(f"tokenizer.json is none: {error}") from None
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    if len(tokens) > shape.vocab_size:
        raise ModelFileError(
            f"tokenizer.json has {len(tokens)} tokens, config.json has {shape.vocab_size}: "
            "they do not belong together"
        )
    missing = shape.vocab_size - len(tokens)
    return [*tokens, *(f"<|{number * _TIMESTAMP_S:.2f}|>" for number in range(missing))]


def _configure(config: Any, source: Path, shape: _Shape) -> None:
    told = _document(source, "config.json")
    if (source / "generation_config.json").is_file():
        told |= _document(source, "generation_config.json")
    config.suppress_ids = told.get("suppress_tokens") or []
    config.suppress_ids_begin = told.get("begin_suppress_tokens") or []
    config.lang_ids = sorted((told.get("lang_to_id") or {}).values()) or _languages(source)
    layers, heads = shape.decoder_layers, shape.decoder_attention_heads
    # The last half of the layers, where nobody has found out which heads follow the words.
    config.alignment_heads = told.get("alignment_heads") or [
        [layer, head] for layer in range(layers // 2, layers) for head in range(heads)
    ]


def _languages(source: Path) -> list[int]:
    """Where `lang_to_id` is missing: tokens such as <|en|>, <|yue|>."""
    added = _document(source, "tokenizer.json").get("added_tokens", [])
    return sorted(
        entry["id"]
        for entry in added
        if len(word := entry["content"].removeprefix("<|").removesuffix("|>")) in (2, 3)
        and word.isalpha()
        and word.islower()
    )


def _document(source: Path, name: str) -> dict[str, Any]:
    try:
        document = json.loads((source / name).read_bytes())
    except FileNotFoundError:
        raise ModelFileError(f"{name} is missing in {source}: fetch it, too") from None
    except (ValueError, RecursionError):
        raise ModelFileError(f"{name} is no JSON") from None
    if not isinstance(document, dict):
        raise ModelFileError(f"{name} should be a JSON object")
    return document
