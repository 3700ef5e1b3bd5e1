"""What the transcriber is told by its environment (calls-plugin.md 9.2, texts of the reference)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar, Final

from jobs.settings import (
    JobSettings,
    SettingsError,
    bool_setting,
    choice_setting,
    read_common,
)
from jobs.transcriber import keeping, speech_settings
from jobs.transcriber.engines.catalogue import APIS
from jobs.transcriber.engines.devices import AUTOMATIC
from jobs.transcriber.engines.remote_options import REMOTE_APIS, OptionsError, read_options
from jobs.transcriber.formats.text import TextOptions
from jobs.transcriber.host import usable_cpus

JOB_ID_VARIABLE: Final = "TRANSCRIPTION_ID"
_SIZES: Final = ("tiny", "base", "small", "medium", "large")
_PUBLISH_AFTER_S: Final = 5


@dataclass(frozen=True, slots=True)
class TranscriberSettings(JobSettings):
    """All of it, checked."""

    not_kept: ClassVar[frozenset[str]] = JobSettings.not_kept | {
        "tasks_token",
        "tasks_url",
        "transcribe_api_options",
        "warnings",
    }

    transcribe_api: str = "whisper.cpp"
    transcribe_api_options: str = field(default="null", repr=False)
    """JSON; credentials of the service in `transcribe_api`. See `engines.remote_options`."""
    model_size: str = "base"
    """A folder in `models_dir`."""
    num_threads: int = 1
    """For the final text; captions have their own share."""
    live_captions_on: bool = False
    live_captions_model_size: str = "tiny"
    live_captions_threads: int = 2
    """Transcribers × threads per transcriber, as the plugin gives them."""
    live_captions_language: str = "en"
    live_captions_context_s: float = 10.0
    """Empty: each speaker's own."""
    webvtt_omit_speaker: bool = False
    text_compact_silence_threshold_ms: int = 2000
    text_compact_max_segment_duration_ms: int = 10000
    models_dir: Path = Path("/models")
    compute_type: str = AUTOMATIC
    """Of the local engine, see `engines.devices`."""
    fallback_model: str = ""
    """A folder in `models_dir`: what a service fails to do is done with it; empty: it is lost."""
    languages: str = ""
    """What is spoken, separated by commas: one is taken as given, several are told apart per speaker; empty:
    anything."""
    vocabulary: str = field(default="", repr=False)
    """Words and names that are used in the organisation, separated by commas."""
    publish_after_s: int = _PUBLISH_AFTER_S
    """Not posted sooner after the end of the call: the player gets captions only if the recording's post is
    there first (trap 38). PUBLISH_AFTER_S."""
    without_recording: bool = False
    """No recording is to be waited for: time begins with the join. WITHOUT_RECORDING."""
    artifacts: str = ""
    """Which files are kept after publication: names of jobs.transcriber.keeping.ARTIFACTS with commas."""
    keep_audio: bool = False
    """Are the speakers' voices kept, so that they can be transcribed again?"""
    tasks_url: str = ""
    """Where others are asked to transcribe after the call; empty: this job does it. TRANSCRIBE_TASKS_URL."""
    tasks_token: str = field(default="", repr=False)
    """TRANSCRIBE_TASKS_TOKEN."""
    warnings: tuple[str, ...] = ()
    """What was corrected; to be logged."""

    @property
    def text_options(self) -> TextOptions:
        return TextOptions(
            silence_threshold_ms=self.text_compact_silence_threshold_ms,
            max_segment_duration_ms=self.text_compact_max_segment_duration_ms,
        )

    @property
    def threads(self) -> int:
        """What captions and the final text may use together."""
        captions = self.live_captions_threads if self.live_captions_on else 0
        return max(self.num_threads, captions)


def read_settings(environ: Mapping[str, str], *, cpus: int | None = None) -> TranscriberSettings:
    """Check and convert. `cpus`: what this process may use, found out when None.

    Raises:
        SettingsError: the first rule broken.
    """
    common = read_common(environ, job_id_variable=JOB_ID_VARIABLE)
    cpus = cpus or usable_cpus()
    models_dir = Path(environ.get("MODELS_DIR") or "/models")
    sizes = (*_SIZES, *(path.parent.name for path in models_dir.glob("*/model.bin")))
    captions_on = bool_setting(environ, "LIVE_CAPTIONS_ON")
    warnings: list[str] = []
    choice_setting(environ, "OUTPUT_FORMAT", name="OutputFormat", default="vtt", choices=("vtt",))
    api = choice_setting(
        environ,
        "TRANSCRIBE_API",
        name="TranscribeAPI",
        default="whisper.cpp",
        choices=APIS,
    )
    options = speech_settings.api_options(environ)
    if api in REMOTE_APIS:
        try:
            read_options(api, options)
        except OptionsError as error:
            raise SettingsError(f"TranscribeAPIOptions: {error}") from None
    default_threads = min(2, cpus // 2) if captions_on else cpus // 2
    return TranscriberSettings(
        **asdict(common),
        transcribe_api=api,
        transcribe_api_options=options,
        model_size=speech_settings.model_name(environ, "MODEL")
        or choice_setting(environ, "MODEL_SIZE", name="ModelSize", default="base", choices=sizes),
        num_threads=_threads(
            _number(environ, "NUM_THREADS", name="NumThreads", default=max(1, default_threads)),
            name="NumThreads",
            cpus=cpus,
            warnings=warnings,
        ),
        live_captions_on=captions_on,
        live_captions_model_size=speech_settings.model_name(environ, "LIVE_CAPTIONS_MODEL")
        or choice_setting(
            environ,
            "LIVE_CAPTIONS_MODEL_SIZE",
            name="LiveCaptionsModelSize",
            default="tiny",
            choices=sizes,
        ),
        live_captions_threads=_caption_threads(environ, cpus, warnings) if captions_on else 1,
        live_captions_language=speech_settings.caption_language(environ, warnings),
        live_captions_context_s=speech_settings.caption_context(environ, warnings),
        webvtt_omit_speaker=bool_setting(environ, "WEBVTT_OMIT_SPEAKER"),
        text_compact_silence_threshold_ms=_positive(
            environ, "TEXT_COMPACT_SILENCE_THRESHOLD_MS", name="SilenceThresholdMs", default=2000
        ),
        text_compact_max_segment_duration_ms=_positive(
            environ,
            "TEXT_COMPACT_MAX_SEGMENT_DURATION_MS",
            name="MaxSegmentDurationMs",
            default=10000,
        ),
        models_dir=models_dir,
        compute_type=speech_settings.compute_type(environ, warnings),
        fallback_model=speech_settings.model_name(environ, "FALLBACK_MODEL"),
        languages=speech_settings.languages(environ, warnings),
        vocabulary=speech_settings.vocabulary(environ, warnings),
        publish_after_s=_publish_after(environ),
        without_recording=bool_setting(environ, "WITHOUT_RECORDING"),
        artifacts=keeping.artifacts(environ, warnings),
        keep_audio=keeping.keep_audio(environ, warnings),
        tasks_url=environ.get("TRANSCRIBE_TASKS_URL", "").rstrip("/"),
        tasks_token=environ.get("TRANSCRIBE_TASKS_TOKEN", ""),
        warnings=tuple(warnings),
    )


def _caption_threads(environ: Mapping[str, str], cpus: int, warnings: list[str]) -> int:
    transcribers, each = "LiveCaptionsNumTranscribers", "LiveCaptionsNumThreadsPerTranscriber"
    product = _number(
        environ, "LIVE_CAPTIONS_NUM_TRANSCRIBERS", name=transcribers, default=1
    ) * _number(environ, "LIVE_CAPTIONS_NUM_THREADS_PER_TRANSCRIBER", name=each, default=2)
    return _threads(product, name=f"{transcribers} * {each}", cpus=cpus, warnings=warnings)


def _threads(value: int, *, name: str, cpus: int, warnings: list[str]) -> int:
    """More threads than processors only get in each other's way: a warning, not a lost transcript."""
    if value < 1:
        raise SettingsError(f"{name} should be in the range [1, {cpus}]")
    if value > cpus:
        warnings.append(f"{name} = {value} should be in the range [1, {cpus}]; {cpus} is used")
    return min(value, cpus)


def _positive(environ: Mapping[str, str], variable: str, *, name: str, default: int) -> int:
    value = _number(environ, variable, name=name, default=default)
    if value < 1:
        raise SettingsError(f"{name} should be a positive number")
    return value


def _publish_after(environ: Mapping[str, str]) -> int:
    text = environ.get("PUBLISH_AFTER_S", "").strip()
    if not text:
        return _PUBLISH_AFTER_S
    if not text.isdecimal():
        raise SettingsError(f"PUBLISH_AFTER_S={text!r}: should be a whole number of seconds")
    return int(text)


def _number(environ: Mapping[str, str], variable: str, *, name: str, default: int) -> int:
    """Empty and 0 mean the default."""
    text = environ.get(variable, "").strip()
    try:
        return (int(text) if text else 0) or default
    except ValueError:
        raise SettingsError(f"failed to parse {name}: {variable}={text!r}") from None
