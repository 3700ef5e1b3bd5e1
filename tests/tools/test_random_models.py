"""Models with random weights say the same number of tokens every time, and nothing but words."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from jobs.transcriber.engines.faster_whisper import FasterWhisperEngine
from tools.random_models import vocabulary
from tools.random_models.converted import write_converted
from tools.random_models.ggml import write_ggml
from tools.random_models.weights import TEXT_TOKENS, Shape

SMALLEST = Shape(64, 2, 2, ((1, 0), (1, 1)))


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("random") / "smallest"
    write_converted(SMALLEST, directory)
    return directory


@pytest.mark.parametrize("seed", [1, 2])
def test_every_window_has_the_same_number_of_tokens(model_dir: Path, seed: int) -> None:
    engine = FasterWhisperEngine(model_dir, workers=1, threads_per_worker=1, second_opinion=False)
    generated: list[int] = []
    model = engine._model.model

    class Counting:
        def __getattr__(self, name):
            return getattr(model, name)

        def generate(self, *args, **options):
            results = model.generate(*args, **options)
            generated.extend(len(result.sequences_ids[0]) for result in results)
            return results

    engine._model.model = Counting()
    noise = np.random.default_rng(seed).normal(0, 0.05, 16_000 * 29).astype(np.float32)
    engine.transcribe(noise, language="en")
    assert set(generated) == {TEXT_TOKENS + 1}  # one of them is the timestamp at the beginning


def test_the_vocabulary_is_laid_out_like_the_real_one() -> None:
    tokenizer = vocabulary.make_tokenizer()
    assert tokenizer.token_to_id("<|endoftext|>") == 50257
    assert tokenizer.token_to_id("<|en|>") == 50259
    assert tokenizer.token_to_id("<|notimestamps|>") == 50363
    assert tokenizer.token_to_id("<|0.00|>") == 50364
    assert tokenizer.get_vocab_size() == 51865
    assert len(set(vocabulary.words())) == vocabulary.END_OF_TEXT


def test_ggml_begins_with_the_dimensions_and_holds_every_tensor(tmp_path: Path) -> None:
    path = tmp_path / "ggml.bin"
    write_ggml(SMALLEST, path)
    data = path.read_bytes()
    assert struct.unpack("<12i", data[:48]) == (
        *(0x67676D6C, 51865, 1500, 64, 2, 2, 448, 64, 2, 2, 80, 1),
    )
    for name in (
        b"encoder.conv1.bias",
        b"decoder.blocks.1.cross_attn.out.bias",
        b"decoder.ln.bias",
    ):
        assert data.count(name) == 1
