"""A vocabulary of the real size and layout: bytes, made-up words, and Whisper's own tokens behind them."""

from __future__ import annotations

from typing import Final

from faster_whisper.tokenizer import _LANGUAGE_CODES
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
END_OF_TEXT: Final = 50_257
_LANGUAGES: Final = 99
FIRST_TIMESTAMP: Final = END_OF_TEXT + 2 + _LANGUAGES + 6
SIZE: Final = FIRST_TIMESTAMP + 1501


def words() -> list[str]:
    """What comes before `<|endoftext|>`, as byte-level BPE writes it."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    return letters + [f"Ġ{_word(number)}" for number in range(END_OF_TEXT - len(letters))]


def special_tokens() -> list[str]:
    """What comes from `<|endoftext|>` on."""
    # English comes first in the real ones too; Cantonese came with large-v3.
    languages = ["en", *(code for code in _LANGUAGE_CODES if code not in ("en", "yue"))]
    assert len(languages) == _LANGUAGES
    tasks = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
    names = ["endoftext", "startoftranscript", *languages, *tasks]
    return [f"<|{name}|>" for name in names] + [f"<|{n * 0.02:.2f}|>" for n in range(1501)]


def make_tokenizer() -> Tokenizer:
    """For `tokenizer.json`."""
    vocabulary = {word: number for number, word in enumerate(words())}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in special_tokens()])
    assert tokenizer.get_vocab_size() == SIZE
    return tokenizer


def as_bytes(word: str) -> bytes:
    """A word of `words` as the text that it stands for."""
    return decoders.ByteLevel().decode([word]).encode()


def _word(number: int) -> str:
    """Two letters and more, no two alike."""
    text = ""
    number += len(_LETTERS)
    while number:
        number, letter = divmod(number, len(_LETTERS))
        text += _LETTERS[letter]
    return text
