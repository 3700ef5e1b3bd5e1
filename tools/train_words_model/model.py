"""A very small Whisper in plain PyTorch, with two extra losses that are dropped at export."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tools.train_words_model.tokenizer import TIMESTAMPS, Tokens

D_MODEL, HEADS, ENCODER_LAYERS, DECODER_LAYERS = 128, 4, 3, 2
MELS, SOURCE_POSITIONS, TARGET_POSITIONS = 80, 1500, 448
ALIGNMENT_LAYER, ALIGNMENT_HEADS = DECODER_LAYERS - 1, (0, 1)
_UNUSED_BIAS = -20.0
_SHIFTS_FRAMES = ((1.5, 4.0), (3.0, 8.0), (6.0, 20.0))


def sinusoids(length: int, channels: int = D_MODEL) -> Tensor:
    """Whisper's position table, (length, channels): sines, then cosines."""
    half = channels // 2
    rates = torch.exp(-math.log(10000) / (half - 1) * torch.arange(half))
    angles = torch.arange(length)[:, None] * rates[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Attention(nn.Module):
    """Multi-head attention; `last_weights` keeps (batch, heads, queries, keys) when asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(D_MODEL, D_MODEL)
        self.key = nn.Linear(D_MODEL, D_MODEL, bias=False)
        self.value = nn.Linear(D_MODEL, D_MODEL)
        self.out = nn.Linear(D_MODEL, D_MODEL)

    def forward(
        self, x: Tensor, source: Tensor, *, causal: bool = False, weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        q, k, v = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for part in (self.query(x), self.key(source), self.value(source))
        )
        if weights:
            attention = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
            mixed = attention @ v
        else:
            attention = None
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        return self.out(mixed.transpose(1, 2).flatten(2)), attention


class Block(nn.Module):
    """Pre-norm transformer block, with cross attention in the decoder."""

    def __init__(self, *, cross: bool) -> None:
        super().__init__()
        self.self_norm, self.self_attention = nn.LayerNorm(D_MODEL), Attention()
        self.cross_norm = nn.LayerNorm(D_MODEL) if cross else None
        self.cross_attention = Attention() if cross else None
        self.mlp_norm = nn.LayerNorm(D_MODEL)
        self.mlp_in, self.mlp_out = nn.Linear(D_MODEL, 4 * D_MODEL), nn.Linear(4 * D_MODEL, D_MODEL)

    def forward(self, x: Tensor, source: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        normed = self.self_norm(x)
        x = x + self.self_attention(normed, normed, causal=source is not None)[0]
        attention = None
        if source is not None and self.cross_attention is not None and self.cross_norm is not None:
            mixed, attention = self.cross_attention(self.cross_norm(x), source, weights=True)
            x = x + mixed
        return x + self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(x)))), attention


@dataclass
class Output:
    logits: Tensor
    """(batch, tokens, vocabulary)."""
    frame_logits: Tensor
    """(batch, frames of 20 ms, words + 1); the last class is no word."""
    attentions: list[Tensor]
    """Cross attention per decoder layer, (batch, heads, tokens, frames)."""


class WordsModel(nn.Module):
    """Encoder and decoder; timestamps share one learned matrix over a sinusoid of their time."""

    def __init__(self, tokens: Tokens) -> None:
        super().__init__()
        self.first_timestamp = tokens.first_timestamp
        self.conv1 = nn.Conv1d(MELS, D_MODEL, 3, padding=1)
        self.conv2 = nn.Conv1d(D_MODEL, D_MODEL, 3, stride=2, padding=1)
        self.encoder = nn.ModuleList(Block(cross=False) for _ in range(ENCODER_LAYERS))
        self.encoder_norm = nn.LayerNorm(D_MODEL)
        self.text_embeddings = nn.Parameter(torch.randn(tokens.first_timestamp, D_MODEL) * 0.05)
        self.time_matrix = nn.Parameter(torch.randn(D_MODEL, D_MODEL) * 0.02)
        self.target_positions = nn.Parameter(torch.randn(TARGET_POSITIONS, D_MODEL) * 0.02)
        self.decoder = nn.ModuleList(Block(cross=True) for _ in range(DECODER_LAYERS))
        self.decoder_norm = nn.LayerNorm(D_MODEL)
        self.frame_classes = nn.Linear(D_MODEL, len(tokens.words) + 1)
        self.register_buffer("source_positions", sinusoids(SOURCE_POSITIONS))
        self.register_buffer("times", sinusoids(TIMESTAMPS))
        used = torch.zeros(tokens.first_timestamp)
        used[list(tokens.words.values())] = 1
        used[[tokens.end, tokens.no_speech]] = 1
        bias = torch.cat([(1 - used) * _UNUSED_BIAS, torch.zeros(TIMESTAMPS)])
        self.register_buffer("output_bias", bias)
        self._look_aside()

    def embeddings(self) -> Tensor:
        """(vocabulary, d_model), tied with the output."""
        return torch.cat([self.text_embeddings, self.times @ self.time_matrix])

    def encode(self, mels: Tensor, offsets: Tensor) -> Tensor:
        """(batch, 80, 2 × frames) at a place of the 30 s window given in frames per item."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(mels)))).transpose(1, 2)
        places = offsets[:, None] + torch.arange(x.shape[1])[None, :]
        x = x + self.source_positions[places]
        for block in self.encoder:
            x, _ = block(x)
        return self.encoder_norm(x)

    def forward(self, mels: Tensor, offsets: Tensor, tokens: Tensor) -> Output:
        source = self.encode(mels, offsets)
        embeddings = self.embeddings()
        x = embeddings[tokens] + self.target_positions[: tokens.shape[1]]
        attentions: list[Tensor] = []
        for block in self.decoder:
            x, attention = block(x, source)
            attentions.append(attention)
        logits = self.decoder_norm(x) @ embeddings.T + self.output_bias
        return Output(logits, self.frame_classes(source), attentions)

    @torch.no_grad()
    def _look_aside(self) -> None:
        """Start each encoder head looking a fixed number of frames ahead or back.

        Over sinusoids a shift is a rotation of each sine/cosine pair. Finding relative positions from
        random weights takes thousands of steps.
        """
        half, width = D_MODEL // 2, D_MODEL // HEADS
        rates = torch.exp(-math.log(10000) / (half - 1) * torch.arange(half))
        pairs = torch.arange(width // 2) * 2
        for block, shifts in zip(self.encoder, _SHIFTS_FRAMES, strict=True):
            query = block.self_attention.query.weight
            key = block.self_attention.key.weight
            for head, shift in enumerate((shifts[0], -shifts[0], shifts[1], -shifts[1])):
                rows = torch.arange(width // 2) + head * width
                cosine, sine = torch.cos(rates[pairs] * shift), torch.sin(rates[pairs] * shift)
                rotated = torch.zeros(width, D_MODEL)
                index = torch.arange(width // 2)
                rotated[index, pairs], rotated[index, pairs + half] = cosine, sine
                rotated[index + width // 2, pairs] = -sine
                rotated[index + width // 2, pairs + half] = cosine
                plain = torch.zeros(width, D_MODEL)
                plain[index, pairs] = 1
                plain[index + width // 2, pairs + half] = 1
                query[rows[0] : rows[0] + width] += rotated * 1.5
                key[rows[0] : rows[0] + width] += plain * 1.5
