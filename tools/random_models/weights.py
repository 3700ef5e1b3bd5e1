"""Random weights in OpenAI's naming, arranged so that every text has the same number of tokens.

Two dimensions of the decoder's stream are kept for that: in the first one the position says whether the text
is over, and only `<|endoftext|>` looks at it; the second one keeps timestamps from being chosen freely.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tools.random_models.vocabulary import END_OF_TEXT, FIRST_TIMESTAMP, SIZE

Array = NDArray[np.float32]
MELS: Final = 80
AUDIO_POSITIONS: Final = 1500
TEXT_POSITIONS: Final = 448
TEXT_TOKENS: Final = 80
"""What people say in 30 s, about."""
MULTILINGUAL_PROMPT: Final = 4
"""Start, language, task, and the first timestamp (or that there are none)."""
ENGLISH_PROMPT: Final = 2
"""Start, and the first timestamp."""
_LOUD: Final = 12.0
_SPREAD: Final = 0.02


@dataclass(frozen=True, slots=True)
class Shape:
    """Dimensions of a published model (its `dims`), and its alignment heads (layer, head)."""

    state: int
    heads: int
    layers: int
    alignment_heads: tuple[tuple[int, int], ...]


SHAPES: Final = {
    "tiny": Shape(384, 6, 4, ((2, 2), (3, 0), (3, 2), (3, 3), (3, 4), (3, 5))),
    "base": Shape(512, 8, 6, ((3, 1), (4, 2), (4, 3), (4, 7), (5, 1), (5, 2), (5, 4), (5, 6))),
    "small": Shape(
        *(768, 12, 12),
        ((5, 3), (5, 9), (8, 0), (8, 4), (8, 7), (8, 8), (9, 0), (9, 7), (9, 9), (10, 5)),
    ),
}


def make_weights(shape: Shape, *, prompt_tokens: int, seed: int = 1) -> Iterator[tuple[str, Array]]:
    """Every tensor under the name that OpenAI's checkpoints give it; the text ends `TEXT_TOKENS` after so
    many tokens."""
    chance = np.random.default_rng(seed)

    def some(*size: int, spread: float = _SPREAD) -> Array:
        return chance.standard_normal(size, np.float32) * np.float32(spread)

    state = shape.state
    yield "encoder.positional_embedding", _sinusoids(AUDIO_POSITIONS, state)
    yield "encoder.conv1.weight", some(state, MELS, 3)
    yield "encoder.conv1.bias", some(state)
    yield "encoder.conv2.weight", some(state, state, 3)
    yield "encoder.conv2.bias", some(state)
    for side in ("encoder", "decoder"):
        for layer in range(shape.layers):
            block = f"{side}.blocks.{layer}"
            for attention in ("attn", "cross_attn") if side == "decoder" else ("attn",):
                yield f"{block}.{attention}_ln.weight", np.ones(state, np.float32)
                yield f"{block}.{attention}_ln.bias", np.zeros(state, np.float32)
                for part in ("query", "key", "value", "out"):
                    yield f"{block}.{attention}.{part}.weight", some(state, state)
                    if part != "key":
                        yield f"{block}.{attention}.{part}.bias", some(state)
            yield f"{block}.mlp_ln.weight", np.ones(state, np.float32)
            yield f"{block}.mlp_ln.bias", np.zeros(state, np.float32)
            yield f"{block}.mlp.0.weight", some(4 * state, state)
            yield f"{block}.mlp.0.bias", some(4 * state)
            yield f"{block}.mlp.2.weight", some(state, 4 * state)
            yield f"{block}.mlp.2.bias", some(state)
    for norm in ("encoder.ln_post", "decoder.ln"):
        yield f"{norm}.weight", np.ones(state, np.float32)
        yield f"{norm}.bias", np.zeros(state, np.float32)
    positions = some(TEXT_POSITIONS, state, spread=1.0)
    over = np.arange(TEXT_POSITIONS) >= prompt_tokens + TEXT_TOKENS - 1
    positions[:, 0] = np.where(over, _LOUD, -_LOUD)
    # More than a timestamp read takes away from it.
    positions[:, 1] = 3 * _LOUD
    yield "decoder.positional_embedding", positions
    tokens = some(SIZE, state)
    tokens[:, :2] = 0
    tokens[END_OF_TEXT, 0] = _LOUD
    tokens[END_OF_TEXT + 1 :, 1] = -_LOUD
    assert FIRST_TIMESTAMP > END_OF_TEXT
    yield "decoder.token_embedding.weight", tokens


def _sinusoids(length: int, channels: int) -> Array:
    """As Whisper's encoder has them."""
    step = np.log(10_000) / (channels // 2 - 1)
    scaled = np.arange(length)[:, None] * np.exp(-step * np.arange(channels // 2))[None, :]
    return np.concatenate([np.sin(scaled), np.cos(scaled)], axis=1).astype(np.float32)
