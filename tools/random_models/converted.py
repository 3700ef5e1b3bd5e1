"""Writes random weights as what faster-whisper loads: CTranslate2's format, int8, with a tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2.specs import WhisperSpec

from tools.random_models import vocabulary
from tools.random_models.weights import ENGLISH_PROMPT, MELS, Array, Shape, make_weights


def write_converted(shape: Shape, directory: Path) -> None:
    """Blocks for seconds; `directory` must not exist. CTranslate2 takes it for an English-only model."""
    weights = dict(make_weights(shape, prompt_tokens=ENGLISH_PROMPT))
    spec: Any = WhisperSpec(shape.layers, shape.heads, shape.layers, shape.heads)
    for name in ("conv1", "conv2"):
        conv = getattr(spec.encoder, name)
        conv.weight, conv.bias = weights[f"encoder.{name}.weight"], weights[f"encoder.{name}.bias"]
    for side, norm in (("encoder", "ln_post"), ("decoder", "ln")):
        coder = getattr(spec, side)
        coder.position_encodings.encodings = weights[f"{side}.positional_embedding"]
        _norm(coder.layer_norm, weights, f"{side}.{norm}")
        for layer, target in enumerate(coder.layer):
            _block(target, weights, f"{side}.blocks.{layer}")
    spec.decoder.embeddings.weight = weights["decoder.token_embedding.weight"]
    spec.decoder.projection.weight = weights["decoder.token_embedding.weight"]
    tokens = [*vocabulary.words(), *vocabulary.special_tokens()]
    spec.register_vocabulary(tokens)
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = [vocabulary.END_OF_TEXT]
    spec.config.lang_ids = list(range(vocabulary.END_OF_TEXT + 2, vocabulary.FIRST_TIMESTAMP - 6))
    spec.config.alignment_heads = [list(pair) for pair in shape.alignment_heads]
    spec.validate()
    spec.optimize(quantization="int8")
    directory.mkdir(parents=True)
    vocabulary.make_tokenizer().save(str(directory / "tokenizer.json"))
    (directory / "preprocessor_config.json").write_text(json.dumps({"feature_size": MELS}))
    spec.save(str(directory))


def _block(target: Any, weights: dict[str, Array], name: str) -> None:
    _norm(target.self_attention.layer_norm, weights, f"{name}.attn_ln")
    joined, out = target.self_attention.linear
    _joined(joined, weights, f"{name}.attn", ("query", "key", "value"))
    _linear(out, weights, f"{name}.attn.out")
    if f"{name}.cross_attn_ln.weight" in weights:
        _norm(target.attention.layer_norm, weights, f"{name}.cross_attn_ln")
        query, joined, out = target.attention.linear
        _linear(query, weights, f"{name}.cross_attn.query")
        _joined(joined, weights, f"{name}.cross_attn", ("key", "value"))
        _linear(out, weights, f"{name}.cross_attn.out")
    _norm(target.ffn.layer_norm, weights, f"{name}.mlp_ln")
    _linear(target.ffn.linear_0, weights, f"{name}.mlp.0")
    _linear(target.ffn.linear_1, weights, f"{name}.mlp.2")


def _joined(target: Any, weights: dict[str, Array], name: str, parts: tuple[str, ...]) -> None:
    matrices = [weights[f"{name}.{part}.weight"] for part in parts]
    nothing = np.zeros(len(matrices[0]), np.float32)  # keys have no bias
    target.weight = np.concatenate(matrices)
    target.bias = np.concatenate([weights.get(f"{name}.{part}.bias", nothing) for part in parts])


def _linear(target: Any, weights: dict[str, Array], name: str) -> None:
    target.weight, target.bias = weights[f"{name}.weight"], weights[f"{name}.bias"]


def _norm(target: Any, weights: dict[str, Array], name: str) -> None:
    target.gamma, target.beta = weights[f"{name}.weight"], weights[f"{name}.bias"]
