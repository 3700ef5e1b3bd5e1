"""Files kept beside a recording (docs/recording.md), made when its post surely exists.

They stay in `artifacts/` of the job's directory, where the job service offers them. Each is made or skipped
by itself, and all of them once: what ends the process here is not met again by whoever finishes the job.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from foundation.logs import get_logger
from foundation.tracebacks import summary
from jobs.recorder.settings import RecorderSettings

if TYPE_CHECKING:
    from jobs.recorder.moments import Moment

ARTIFACTS_DIR: Final = "artifacts"
_BEGUN: Final = "artifacts.begun"
_log = get_logger(component="artifacts")


def make_artifacts(settings: RecorderSettings, recording: Path) -> None:
    """Make what is wished from the finished `recording`. Blocks for seconds at most; never raises."""
    wished = {
        name: make
        for name, make in (("chapters", _chapters), ("poster", _poster))
        if settings.wants(name)
    }
    if not wished:
        return
    target = settings.directory / ARTIFACTS_DIR
    try:
        (settings.directory / _BEGUN).touch(exist_ok=False)
        target.mkdir(mode=0o700, exist_ok=True)
    except FileExistsError:
        _log.warning("artifacts.skipped", reason="a process ended while it made them")
        return
    except OSError as error:
        _log.warning("artifacts.skipped", reason=error.strerror or type(error).__name__)
        return
    for name, make in wished.items():
        try:
            make(settings.directory, recording, target)
        except Exception as error:  # noqa: BLE001 - the recording is published; this one is skipped
            _log.warning("artifact.failed", artifact=name, reason=summary(error))
        else:
            _log.info("artifact.made", artifact=name)


def _chapters(directory: Path, recording: Path, target: Path) -> None:
    from jobs.recorder.chapters import chapters, to_json, to_webvtt

    found = chapters(_moments(directory), duration_s=_duration_s(recording))
    (target / "chapters.json").write_text(to_json(found), encoding="utf-8")
    (target / "chapters.vtt").write_text(to_webvtt(found), encoding="utf-8")


def _poster(directory: Path, recording: Path, target: Path) -> None:
    from jobs.recorder.poster import poster_at_s, write_poster

    at_s = poster_at_s(_moments(directory), duration_s=_duration_s(recording))
    write_poster(recording, target / "poster.jpg", at_s=at_s)


def _moments(directory: Path) -> list[Moment]:
    from jobs.recorder.moments import read_moments

    return read_moments(directory)


def _duration_s(recording: Path) -> float:
    import av

    with av.open(str(recording)) as container:
        return (container.duration or 0) / av.time_base
