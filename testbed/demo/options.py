"""What the demo can be told, by options and by the environment."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from testbed.ports import Ports
from testbed.scenario import PLANS
from testbed.speech.clips import CLIPS_DIRECTORY

BUNDLED_MODEL: Final = Path(__file__).parents[2] / "models" / "whisper-words-ct2"
LOST_UPLOAD_PART: Final = "upload:lost"
"""The server loses the content of the first part that is uploaded."""
MODEL_SIZES: Final = ("tiny", "base")
"""What the stand-in asks for: base for the transcript, tiny for captions."""


class OptionError(ValueError):
    """An option cannot be used; the message names it."""


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """One run."""

    output: Path = Path("demo-output")
    scenario: str = "full"
    models_dir: Path | None = None
    """One directory per model size; None: the bundled model of 97 synthetic words."""
    speech_dir: Path = CLIPS_DIRECTORY
    ports: Ports = field(default_factory=Ports)
    faults: tuple[str, ...] = ()
    keep_work_dir: bool = False
    backend: str = "process"
    """How jobs run; with `docker` the site is served by https, with a private CA."""
    crash_offloader_at_s: float | None = None
    """Seconds of talk after which the job service is killed, to come back three seconds later."""

    @property
    def bot_faults(self) -> tuple[str, ...]:
        return tuple(fault for fault in self.faults if fault != LOST_UPLOAD_PART)

    @property
    def loses_upload_part(self) -> bool:
        return LOST_UPLOAD_PART in self.faults


def read_options(arguments: Sequence[str], environ: Mapping[str, str]) -> DemoOptions:
    """Command line over environment.

    Raises:
        OptionError: MODELS_DIR or SPEECH is not there.
    """
    parser = argparse.ArgumentParser(
        prog="python -m testbed.demo",
        description="Records, transcribes and captions a real call on this machine, and judges the result.",
        epilog="Environment: MODELS_DIR=/path (a CTranslate2 Whisper model in /path/base and /path/tiny), "
        "SPEECH=DIR (WAV or Opus clips with one JSON of text and word times).",
    )
    ports = Ports()
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="results go here")
    parser.add_argument("--scenario", choices=sorted(PLANS), default="full")
    for name, port in (
        ("sfu", ports.sfu),
        ("media", ports.media),
        ("plugin", ports.plugin),
        ("offloader", ports.offloader),
    ):
        parser.add_argument(f"--{name}-port", type=int, default=port, metavar="PORT")
    parser.add_argument(
        "--fault", action="append", default=[], help="upload:lost, or see testbed.bots.faults"
    )
    parser.add_argument(
        "--backend",
        choices=("process", "docker"),
        default="process",
        help="how jobs run; docker: in the images that `make images` builds, over https and wss",
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep the run's databases and jobs in OUTPUT/work"
    )
    parser.add_argument(
        "--crash-offloader-at",
        type=float,
        metavar="SECONDS",
        help="kill -9 the job service in mid-call and start it again: nobody should notice",
    )
    given = parser.parse_args(arguments)
    return DemoOptions(
        output=given.output,
        scenario=given.scenario,
        models_dir=_directory(environ, "MODELS_DIR"),
        speech_dir=_directory(environ, "SPEECH") or CLIPS_DIRECTORY,
        ports=Ports(given.sfu_port, given.media_port, given.plugin_port, given.offloader_port),
        faults=tuple(given.fault),
        keep_work_dir=given.keep,
        backend=given.backend,
        crash_offloader_at_s=given.crash_offloader_at,
    )


def provide_models(options: DemoOptions, work_dir: Path) -> Path:
    """A directory with one model per size, for the jobs' MODELS_DIR.

    Raises:
        OptionError: a model is missing.
    """
    if options.models_dir is not None:
        for size in MODEL_SIZES:
            if not (options.models_dir / size / "model.bin").is_file():
                raise OptionError(
                    f"MODELS_DIR={options.models_dir}: {size}/model.bin is missing; it should hold a "
                    f"CTranslate2 Whisper model for each of {', '.join(MODEL_SIZES)}"
                )
        return options.models_dir.resolve()
    if not (BUNDLED_MODEL / "model.bin").is_file():
        raise OptionError(f"the bundled speech model is missing: {BUNDLED_MODEL}")
    directory = work_dir / "models"
    directory.mkdir(parents=True)
    for size in MODEL_SIZES:
        if options.backend == "docker":
            # Mounted into containers, in which a link would lead nowhere; readable for their user.
            shutil.copytree(BUNDLED_MODEL, directory / size)
        else:
            (directory / size).symlink_to(BUNDLED_MODEL)
    return directory


def _directory(environ: Mapping[str, str], name: str) -> Path | None:
    value = environ.get(name, "")
    if not value:
        return None
    path = Path(value)
    if not path.is_dir():
        raise OptionError(f"{name}={value}: should be a directory that exists")
    return path.resolve()
