"""Train a words model: `python -m tools.train_words_model.train --out DIR --minutes 40` (repository root)."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from tools.train_words_model.corpus import make_corpus
from tools.train_words_model.evaluate import word_error_rate
from tools.train_words_model.export import export
from tools.train_words_model.model import ALIGNMENT_HEADS, ALIGNMENT_LAYER, Output, WordsModel
from tools.train_words_model.tokenizer import Tokens, build_tokenizer
from tools.train_words_model.windows import Batch, WindowMaker

_PEAK_RATE = 2e-3
_WARM_UP_STEPS = 60
_LONG_FROM = 0.6
"""Share of the time after which every second batch is of whole 30 s windows."""
_LOG_EVERY = 25


def main() -> None:
    options = _parse()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    tokenizer = build_tokenizer()
    tokens = Tokens(tokenizer)
    _say({"event": "corpus", "sentences": options.sentences})
    maker = WindowMaker(
        make_corpus(options.sentences, seed=options.seed), tokens, seed=options.seed
    )
    model = WordsModel(tokens)
    _say({"event": "model", "parameters": sum(p.numel() for p in model.parameters())})
    train(model, maker, minutes=options.minutes, long_windows=not options.short_only)
    export(model, tokenizer, options.out)
    _say({"event": "evaluated", "word_error_rate": round(word_error_rate(options.out), 4)})


def train(model: WordsModel, maker: WindowMaker, *, minutes: float, long_windows: bool) -> None:
    """Run for a given time: the learning rate follows the clock, so that a slow machine also finishes."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=_PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01
    )
    begun, step = time.monotonic(), 0
    sums: dict[str, float] = {}
    while (done := (time.monotonic() - begun) / (60 * minutes)) < 1:
        rate = _PEAK_RATE * min(1.0, (step + 1) / _WARM_UP_STEPS)
        rate *= 0.5 * (1 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = rate
        whole = long_windows and done > _LONG_FROM and step % 2 == 1
        batch = maker.batch(6, window_s=30.0) if whole else maker.batch(24, window_s=8.0)
        output = model(batch.mels, batch.offsets, batch.tokens)
        loss, figures = _loss(output, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        for name, value in figures.items():
            sums[name] = sums.get(name, 0.0) + value
        if step % _LOG_EVERY == 0:
            means = {name: round(value / _LOG_EVERY, 3) for name, value in sums.items()}
            _say({"event": "step", "step": step, "minutes": round(done * minutes, 1), **means})
            sums.clear()


def _loss(output: Output, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Next token, word per frame, and where the cross attention should look."""
    text = F.cross_entropy(output.logits.flatten(0, 1), batch.targets.flatten(), ignore_index=-100)
    frames = F.cross_entropy(output.frame_logits.flatten(0, 1), batch.frame_targets.flatten())
    said = _guide(output.attentions[ALIGNMENT_LAYER], batch.said_spans)
    read = _guide(output.attentions[0], batch.read_spans)
    right = output.logits.argmax(-1) == batch.targets
    words = batch.said_spans[..., 0] >= 0
    figures = {
        "text_loss": float(text.detach()),
        "frame_loss": float(frames.detach()),
        "attention_loss": float(said.detach()),
        "word_accuracy": float(right[words].float().mean()),
    }
    return text + frames + 0.3 * (said + read), figures


def _guide(attention: Tensor, spans: Tensor) -> Tensor:
    """Minus the log of the attention that two heads give to the frames of a position's word."""
    frames = torch.arange(attention.shape[-1])
    inside = (frames >= spans[..., :1] - 2) & (frames < spans[..., 1:] + 2)
    wanted = spans[..., 0] >= 0
    heads = attention[:, list(ALIGNMENT_HEADS)]
    mass = (heads * inside[:, None]).sum(-1).clamp(min=1e-4)
    return -mass.log().mean(1)[wanted].mean()


def _say(event: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a small Whisper on synthesised words.")
    parser.add_argument("--out", type=Path, required=True, help="directory of the new model")
    parser.add_argument("--minutes", type=float, default=40.0, help="training time (40)")
    parser.add_argument("--sentences", type=int, default=8000, help="size of the corpus (8000)")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (2)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--short-only", action="store_true", help="windows of 8 s only: faster, but no long audio"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
