"""A byte-level BPE tokenizer like Whisper's, in which every vocabulary word is one token.

Order, as faster-whisper requires: text, `<|endoftext|>`, the other special tokens with `<|notimestamps|>`
last, then 1501 timestamps.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from tools.train_words_model.vocabulary import WORDS

_SPECIAL: Final = (
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|en|>",
    "<|translate|>",
    "<|transcribe|>",
    "<|startoflm|>",
    "<|startofprev|>",
    "<|nospeech|>",
    "<|notimestamps|>",
)
TIMESTAMPS: Final = 1501


def _byte_letters() -> list[str]:
    """The printable stand-ins of the 256 bytes in GPT-2's order: printable bytes first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(256 - len(printable))]


def build_tokenizer() -> Tokenizer:
    """The 256 bytes, one chain of merges per word (` h`, ` he`, … ` hello`), then the specials."""
    vocabulary = {letter: index for index, letter in enumerate(_byte_letters())}
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        prefix = "Ġ"
        for letter in word:
            longer = prefix + letter
            if longer not in vocabulary:
                vocabulary[longer] = len(vocabulary)
                merges.append((prefix, letter))
            prefix = longer
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.add_tokens(
        [AddedToken(f"<|{index * 0.02:.2f}|>", normalized=False) for index in range(TIMESTAMPS)]
    )
    return tokenizer


class Tokens:
    """Ids by name."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.size = tokenizer.get_vocab_size()
        self.end = tokenizer.token_to_id("<|endoftext|>")
        self.start = tokenizer.token_to_id("<|startoftranscript|>")
        self.previous = tokenizer.token_to_id("<|startofprev|>")
        self.no_speech = tokenizer.token_to_id("<|nospeech|>")
        self.no_timestamps = tokenizer.token_to_id("<|notimestamps|>")
        self.first_timestamp = self.no_timestamps + 1
        self.english = tokenizer.token_to_id("<|en|>")
        self.words = {word: tokenizer.token_to_id("Ġ" + word) for word in WORDS}

    def timestamp(self, seconds: float) -> int:
        return self.first_timestamp + min(TIMESTAMPS - 1, max(0, round(seconds / 0.02)))

    @property
    def special(self) -> list[int]:
        """Everything between text and timestamps but the end."""
        return list(range(self.end + 1, self.first_timestamp))


def save(tokenizer: Tokenizer, directory: Path) -> list[str]:
    """Write tokenizer.json and vocabulary.json; returns the tokens in the order of their ids."""
    tokenizer.save(str(directory / "tokenizer.json"), pretty=False)
    ordered = [tokenizer.id_to_token(index) for index in range(tokenizer.get_vocab_size())]
    (directory / "vocabulary.json").write_text(json.dumps(ordered, ensure_ascii=False))
    return ordered
