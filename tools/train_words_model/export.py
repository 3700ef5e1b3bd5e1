"""Writes the model in CTranslate2's format, int8, without a detour through other libraries."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from ctranslate2.specs import WhisperSpec
from tokenizers import Tokenizer

from tools.train_words_model import model as shape
from tools.train_words_model.model import Attention, Block, WordsModel
from tools.train_words_model.tokenizer import Tokens, save


def export(model: WordsModel, tokenizer: Tokenizer, directory: Path) -> None:
    """Everything that faster-whisper loads, into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    tokens = Tokens(tokenizer)
    spec = WhisperSpec(shape.ENCODER_LAYERS, shape.HEADS, shape.DECODER_LAYERS, shape.HEADS)
    for name in ("conv1", "conv2"):
        conv, target = getattr(model, name), getattr(spec.encoder, name)
        target.weight, target.bias = _array(conv.weight), _array(conv.bias)
    spec.encoder.position_encodings.encodings = _array(model.source_positions)
    _norm(spec.encoder.layer_norm, model.encoder_norm)
    for target, block in zip(spec.encoder.layer, model.encoder, strict=True):
        _block(target, block)
    embeddings = model.embeddings()
    spec.decoder.embeddings.weight = _array(embeddings)
    spec.decoder.position_encodings.encodings = _array(model.target_positions)
    _norm(spec.decoder.layer_norm, model.decoder_norm)
    for target, block in zip(spec.decoder.layer, model.decoder, strict=True):
        _block(target, block)
    spec.decoder.projection.weight = _array(embeddings)
    spec.decoder.projection.bias = _array(model.output_bias)
    spec.register_vocabulary(save(tokenizer, directory))
    spec.config.suppress_ids = tokens.special
    # Never the end: silence without timestamps must be able to say nothing.
    spec.config.suppress_ids_begin = [tokenizer.token_to_id("Ġ")]
    spec.config.lang_ids = [tokens.english]
    spec.config.alignment_heads = [[shape.ALIGNMENT_LAYER, head] for head in shape.ALIGNMENT_HEADS]
    spec.validate()
    spec.optimize(quantization="int8")
    spec.save(str(directory))
    (directory / "preprocessor_config.json").write_text(json.dumps(_PREPROCESSOR, indent=1))


def _block(target: object, block: Block) -> None:
    _norm(target.self_attention.layer_norm, block.self_norm)
    _self_attention(target.self_attention, block.self_attention)
    if block.cross_attention is not None:
        _norm(target.attention.layer_norm, block.cross_norm)
        _cross_attention(target.attention, block.cross_attention)
    _norm(target.ffn.layer_norm, block.mlp_norm)
    _linear(target.ffn.linear_0, block.mlp_in)
    _linear(target.ffn.linear_1, block.mlp_out)


def _self_attention(target: object, attention: Attention) -> None:
    qkv, out = target.linear
    qkv.weight, qkv.bias = _joined(attention, ("query", "key", "value"))
    _linear(out, attention.out)


def _cross_attention(target: object, attention: Attention) -> None:
    query, key_value, out = target.linear
    _linear(query, attention.query)
    key_value.weight, key_value.bias = _joined(attention, ("key", "value"))
    _linear(out, attention.out)


def _joined(attention: Attention, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    parts = [getattr(attention, name) for name in names]
    weights = torch.cat([part.weight for part in parts])
    biases = [torch.zeros(shape.D_MODEL) if part.bias is None else part.bias for part in parts]
    return _array(weights), _array(torch.cat(biases))


def _linear(target: object, linear: torch.nn.Linear) -> None:
    target.weight, target.bias = _array(linear.weight), _array(linear.bias)


def _norm(target: object, norm: torch.nn.LayerNorm) -> None:
    target.gamma, target.beta = _array(norm.weight), _array(norm.bias)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().to(torch.float32).contiguous().numpy().copy()


_PREPROCESSOR = {
    "feature_size": 80,
    "sampling_rate": 16000,
    "hop_length": 160,
    "chunk_length": 30,
    "n_fft": 400,
    "feature_extractor_type": "WhisperFeatureExtractor",
    "processor_class": "WhisperProcessor",
    "padding_value": 0.0,
    "n_samples": 480000,
    "nb_max_frames": 3000,
}
