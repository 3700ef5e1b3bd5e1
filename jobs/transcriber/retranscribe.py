"""`python -m jobs.transcriber retranscribe`: the transcript once more, from the voices that the job kept.

The environment is the job's own with what shall be different (MODEL, LANGUAGES, VOCABULARY, TRANSCRIBE_API
and its options), and RETRANSCRIPTION, the folder of `artifacts/` for the result:
`transcript.{vtt,txt,json,srt,md}`. With RETRANSCRIPTION_PUBLISH=true it is posted, once, for which
AUTH_TOKEN is needed. Run again under the same name it goes on where it was: what is complete is not made
again, what is posted not posted again.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from callclient.plugin_api import ApiError, PluginApi
from foundation.logs import configure_logs, get_logger
from jobs import job_directory, manifest
from jobs.publication import PublishState, salvage_exit_code
from jobs.settings import SettingsError, bool_setting, read_auth_token
from jobs.site_api import site_api
from jobs.transcriber.capture import find_captures
from jobs.transcriber.document import FORMATS, Document, render, to_document
from jobs.transcriber.engines.base import EngineLoadError
from jobs.transcriber.engines.languages import code_of
from jobs.transcriber.kept import ARTIFACTS_DIR, AUDIO_DIR, CALL_NAME
from jobs.transcriber.losses import lost_connections, lost_packets
from jobs.transcriber.outcome import JSON_NAME, check_understood, publish
from jobs.transcriber.redo import Redone, log_progress, transcribe_place
from jobs.transcriber.settings import TranscriberSettings, read_settings
from jobs.transcriber.speakers import SpeakerDirectory
from jobs.transcriber.workers import EngineGone

_EXIT_OK: Final = 0
_EXIT_USAGE: Final = 2
_NAME: Final = re.compile(r"again-[a-z0-9][a-z0-9-]{0,56}")
"""No other folder of `artifacts/` is this program's to write in: in one are the voices."""
_OWN_FILES: Final = ("transcript.*", "publication.json")
_NO_TOKEN: Final = "0" * 26
"""Stands where a token would, when nothing is sent anywhere."""
_log = get_logger(component="retranscribe")


class NothingKept(ValueError):
    """There is no audio to transcribe again; the message says what keeps it."""


@dataclass(frozen=True, slots=True)
class _Wish:
    settings: TranscriberSettings
    name: str
    publish: bool

    @property
    def target(self) -> Path:
        return self.settings.directory / ARTIFACTS_DIR / self.name


def main(environ: Mapping[str, str]) -> int:
    """0: done. 1: not done, or not posted. 2: the wish cannot be. 3: the site refuses the post for good.

    The last line of the log says what became of it: `retranscription.done` or `retranscription.failed`.
    """
    configure_logs(level=environ.get("LOG_LEVEL") or "info")
    try:
        wish = _read(environ)
    except SettingsError as error:
        _log.error("retranscription.failed", reason=str(error))
        return _EXIT_USAGE
    try:
        with job_directory.held(wish.settings.directory):
            asyncio.run(_transcribe_again(wish))
    except (NothingKept, FileNotFoundError, EngineLoadError) as error:
        _log.error("retranscription.failed", reason=str(error))
        return _EXIT_USAGE
    except (ApiError, EngineGone, OSError, ValueError) as error:
        _log.error("retranscription.failed", reason=str(error))
        return salvage_exit_code(error)
    return _EXIT_OK


def _read(environ: Mapping[str, str]) -> _Wish:
    """Raises SettingsError."""
    name = environ.get("RETRANSCRIPTION", "")
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"RETRANSCRIPTION={name!r}: should be again- with letters, digits and -"
        )
    publishes = bool_setting(environ, "RETRANSCRIPTION_PUBLISH")
    # A container's AUTH_TOKEN_FILE is named also when nothing is in it.
    token = read_auth_token(environ) if publishes else ""
    if publishes and not token:
        raise SettingsError("AuthToken cannot be empty")
    settings = read_settings({**environ, "AUTH_TOKEN": token or _NO_TOKEN})
    for text in environ.get("LANGUAGES", "").split(","):
        # In a call a slip is left out with a warning; here it is the wish itself.
        if text.strip().lower() not in ("", "auto") and not code_of(text.strip()):
            raise SettingsError(f"LANGUAGES: {text!r} is no language code such as en, de or pt-BR")
    return _Wish(replace(settings, live_captions_on=False), name, publishes)


async def _transcribe_again(wish: _Wish) -> None:
    settings = wish.settings
    state = await asyncio.to_thread(_state_of, wish.target)
    document = await asyncio.to_thread(_written, wish.target)
    if document is None and (state.posted or state.in_doubt):
        # Another text, posted beside the one that people have: that is for somebody to decide.
        raise ValueError(f"{wish.target / JSON_NAME}: cannot be read, and its post exists or may")
    base_name = ""
    async with site_api(settings) as api:
        # What may be posted stays as it is; what is [inaudible] in another is worth another try.
        if document is None or not (_is_complete(document) or state.posted or state.in_doubt):
            place = await asyncio.to_thread(_kept_voices, settings.directory)
            base_name = await asyncio.to_thread(_base_name, place)
            redone = await transcribe_place(place, settings, base_name=base_name)
            speakers = await asyncio.to_thread(SpeakerDirectory.load, place)
            if wish.publish:
                for session_id, user_id in {(s.session_id, s.user_id) for s in redone.segments}:
                    await speakers.look_up_by_id(api, session_id=session_id, user_id=user_id)
            document = await asyncio.to_thread(_write, wish, place, redone, speakers)
        certain: bool | None = None
        if wish.publish and document["segments"]:
            certain = await publish(
                api,
                settings,
                language=str(document["language"]),
                base_name=base_name or await _name_of_files(api, settings),
                on_progress=log_progress,
                directory=wish.target,
            )
    await asyncio.to_thread(manifest.seal, settings.directory, "transcribed again")
    _log.info(
        "retranscription.done",
        segments=len(document["segments"]),
        inaudible=len(_failures(document)),
        published=certain is not None,
        certain=certain is not False,
    )


def _kept_voices(directory: Path) -> Path:
    """Where the job's captures are: kept after its post, or still in its directory. Blocks."""
    for place in (directory / ARTIFACTS_DIR / AUDIO_DIR, directory):
        if find_captures(place):
            return place
    raise NothingKept(f"{directory}: no audio was kept; KEEP_AUDIO=true keeps it")


def _state_of(target: Path) -> PublishState:
    """Raises ValueError: the record is damaged."""
    return PublishState(target)


def _written(target: Path) -> Document | None:
    """What an earlier run wrote, if it came to its end. Blocks."""
    with suppress(OSError, ValueError, RecursionError):
        document = json.loads((target / JSON_NAME).read_text(encoding="utf-8"))
        if isinstance(document, dict) and isinstance(document.get("segments"), list):
            return document
    return None


def _is_complete(document: Document) -> bool:
    return not _failures(document)


def _failures(document: Document) -> Sequence[str]:
    return [segment["failure"] for segment in document["segments"] if segment.get("failure")]


def _write(wish: _Wish, place: Path, redone: Redone, speakers: SpeakerDirectory) -> Document:
    """All formats, the JSON last: with it the result is complete. Blocks.

    Raises:
        NothingUnderstood: so nothing is written.
        OSError: it cannot be written.
    """
    check_understood(redone.segments)
    lost = [*lost_connections(place), *lost_packets(find_captures(place))]
    document = to_document(redone.segments, speakers, lost_audio=lost, engine=redone.engine)
    wish.target.mkdir(mode=0o700, parents=True, exist_ok=True)
    for pattern in _OWN_FILES:
        for path in wish.target.glob(pattern):
            path.unlink()  # of a run that was not complete, uploads of it included
    for kind in sorted(FORMATS, key=lambda kind: kind == "json"):
        text = render(
            document,
            kind,
            omit_speaker=wish.settings.webvtt_omit_speaker and kind == "vtt",
            text_options=wish.settings.text_options,
        )
        job_directory.write_private(wish.target / f"transcript.{kind}", text)
    return document


def _base_name(place: Path) -> str:
    """How the call's files are named, as far as that was kept. Blocks."""
    with suppress(OSError, ValueError, AttributeError, RecursionError):
        document = json.loads((place / CALL_NAME).read_text(encoding="utf-8"))
        return str(document.get("base_name") or "")
    return job_directory.base_name(place)


async def _name_of_files(api: PluginApi, settings: TranscriberSettings) -> str:
    for place in (settings.directory / ARTIFACTS_DIR / AUDIO_DIR, settings.directory):
        if name := await asyncio.to_thread(_base_name, place):
            return name
    with suppress(ApiError):
        return await api.filename(settings.call_id)
    return settings.call_id
