"""What a client may wish for when a job's kept audio is transcribed again: checked, and as variables. Pure.

Whether a model is there, and which languages it knows, only the workload can tell; what cannot be is said
here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from offloader.backends.environment import plain_text
from offloader.errors import InvalidJob
from offloader.speech_keys import OPTION_NAME

LOCAL_ENGINES: Final = ("whisper.cpp", "faster-whisper")
AZURE: Final = "azure"
OPENAI: Final = "openai/whisper"
ENGINES: Final = (*LOCAL_ENGINES, AZURE, OPENAI)
MOST_WORDS: Final = 100
_LONGEST_WORD: Final = 100
_MOST_OPTIONS: Final = 20
_LONGEST_OPTION: Final = 4096
_FOLDER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MODEL_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,199}")
_LANGUAGE: Final = re.compile(r"auto|[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})?")
_TOKEN: Final = re.compile(r"[!-~]{1,1024}")
_SEPARATORS: Final = re.compile(r"[,;\r\n\0]")


@dataclass(frozen=True, slots=True)
class RetranscriptionWish:
    """What a client sent, of the right types; empty is as the job had it."""

    model: str = ""
    language: str = ""
    """One, or several separated by commas, or `auto`."""
    engine: str = ""
    vocabulary: Sequence[str] | None = None
    """None: as the job had it."""
    engine_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Of a speech service, by their documented names; with its key."""
    publish: bool = False
    auth_token: str = field(default="", repr=False)

    def engine_of(self, input_data: Mapping[str, Any]) -> str:
        """The engine that will do it. A model without an engine is meant for the job's own kind; Azure has
        none to choose, so there it is a local one."""
        own = str(input_data.get("transcribe_api") or LOCAL_ENGINES[0])
        if self.engine:
            return self.engine
        return "faster-whisper" if self.model and own == AZURE else own

    def check(self, input_data: Mapping[str, Any]) -> None:
        """Raises InvalidJob for the first member that cannot be, with its value and the wanted form."""
        if self.engine not in ("", *ENGINES):
            raise _wrong("engine", self.engine, "one of " + ", ".join(ENGINES))
        engine = self.engine_of(input_data)
        if self.model and engine == AZURE:
            raise _wrong("model", self.model, "left out: azure has no models to choose from")
        if self.model and engine == OPENAI and not _MODEL_ID.fullmatch(self.model):
            raise _wrong("model", self.model, "the name of a model, such as whisper-1")
        if self.model and engine != OPENAI and not _FOLDER.fullmatch(self.model):
            raise _wrong("model", self.model, "the name of a folder in MODELS_DIR, such as small")
        for language in self.language.split(",") if self.language else ():
            if not _LANGUAGE.fullmatch(language.strip()):
                wanted = "a language code such as en, de or pt-BR, several with commas, or auto"
                raise _wrong("language", self.language, wanted)
        self._check_words()
        self._check_options(engine)
        if self.auth_token and not self.publish:
            # Never its value.
            raise InvalidJob("invalid auth_token value: should be left out without publish")
        if self.auth_token and not _TOKEN.fullmatch(self.auth_token):
            raise InvalidJob("invalid auth_token value: should be a token of the Calls bot")

    def variables(self, input_data: Mapping[str, Any]) -> dict[str, str]:
        """What the job is told instead of its own; no secret."""
        engine = self.engine_of(input_data)
        own = str(input_data.get("transcribe_api") or LOCAL_ENGINES[0])
        found: dict[str, str] = {}
        if self.engine or engine != own:
            found["TRANSCRIBE_API"] = engine
        if self.model:
            found["OPENAI_MODEL" if engine == OPENAI else "MODEL"] = self.model
        if self.language:
            found["LANGUAGES"] = ",".join(part.strip() for part in self.language.split(","))
        if self.vocabulary is not None:
            found["VOCABULARY"] = ",".join(word.strip() for word in self.vocabulary)
        return found

    def secret_variables(self) -> dict[str, str]:
        """The options of a speech service, which may be keys."""
        return {name: plain_text(value) for name, value in self.engine_options.items()}

    def _check_words(self) -> None:
        words = self.vocabulary or ()
        if len(words) > MOST_WORDS:
            raise _wrong("vocabulary", f"{len(words)} entries", f"at most {MOST_WORDS}")
        for word in words:
            if not word.strip() or len(word) > _LONGEST_WORD or _SEPARATORS.search(word):
                wanted = (
                    f"words of 1 to {_LONGEST_WORD} characters without commas, semicolons or lines"
                )
                raise _wrong("vocabulary", word, wanted)

    def _check_options(self, engine: str) -> None:
        if self.engine_options and engine in LOCAL_ENGINES:
            raise InvalidJob(
                f"invalid engine_options value: should be left out with {engine}, which needs none"
            )
        if len(self.engine_options) > _MOST_OPTIONS:
            raise InvalidJob(f"invalid engine_options value: should be at most {_MOST_OPTIONS}")
        for name, value in self.engine_options.items():
            if not OPTION_NAME.fullmatch(name):
                wanted = "options such as AZURE_SPEECH_KEY or OPENAI_BASE_URL"
                raise _wrong("engine_options", name, wanted)
            # Without the value: it may be a key.
            text = plain_text(value) if isinstance(value, str | int | float) else None
            if text is None or "\0" in text or len(text) > _LONGEST_OPTION:
                raise InvalidJob(
                    f"invalid engine_options.{name} value: should be a text, a number, true or false"
                )


def name_of(variables: Mapping[str, str], *, service: str = "") -> str:
    """Of the folder for the results: the same for the same wish, so that a repeat finds what is there.

    `service`: fingerprint of the options of the speech service that does it, which are secret.
    """
    told = dict(variables) | ({"": service} if service else {})
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    return f"again-{digest[:8]}"


def _wrong(member: str, value: str, wanted: str) -> InvalidJob:
    return InvalidJob(f'invalid {member} value: "{value[:100]}": should be {wanted}')
