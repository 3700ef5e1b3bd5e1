"""Writes random weights as what whisper.cpp loads: ggml, f16 (its models/convert-pt-to-ggml.py tells how)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor

from tools.random_models import vocabulary
from tools.random_models.weights import (
    AUDIO_POSITIONS,
    MELS,
    MULTILINGUAL_PROMPT,
    TEXT_POSITIONS,
    Array,
    Shape,
    make_weights,
)

_MAGIC: Final = 0x67676D6C
_F32: Final = 0
_F16: Final = 1


def write_ggml(shape: Shape, path: Path) -> None:
    """Blocks for seconds."""
    sides = (shape.state, shape.heads, shape.layers)
    filters = FeatureExtractor(feature_size=MELS).mel_filters.astype(np.float32)
    with path.open("wb") as file:
        head = (vocabulary.SIZE, AUDIO_POSITIONS, *sides, TEXT_POSITIONS, *sides, MELS, _F16)
        file.write(struct.pack("<12i", _MAGIC, *head))
        file.write(struct.pack("<2i", *filters.shape))
        file.write(filters.tobytes())
        words = [vocabulary.as_bytes(word) for word in vocabulary.words()]
        file.write(struct.pack("<i", len(words)))
        for word in words:
            file.write(struct.pack("<i", len(word)) + word)
        for name, tensor in make_weights(shape, prompt_tokens=MULTILINGUAL_PROMPT):
            _write_tensor(file, name, tensor)


def _write_tensor(file: BinaryIO, name: str, tensor: Array) -> None:
    if name in ("encoder.conv1.bias", "encoder.conv2.bias"):
        tensor = tensor[:, None]
    kept = tensor.ndim < 2 or name.endswith(("positional_embedding", ".bias"))
    data = tensor if kept else tensor.astype(np.float16)
    encoded = name.encode()
    file.write(struct.pack("<3i", data.ndim, len(encoded), _F32 if kept else _F16))
    file.write(struct.pack(f"<{data.ndim}i", *reversed(data.shape)))
    file.write(encoded)
    file.write(np.ascontiguousarray(data).tobytes())
