"""What the demo can be told, by options and by the environment."""

from __future__ import annotations

import argparse
import ipaddress
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from testbed.demo.visitor import Visitor
from testbed.plugin.rtcd import RtcdError, RtcdUrl
from testbed.ports import HOST, Ports
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
class Install:
    """An installation whose jobs are to be tried: its images and models, none of ours."""

    environment: Mapping[str, str] = field(repr=False)
    """Variables of its job service."""
    image_registry: str
    """Of the runners' names that the plugin sends it."""
    plugin_environment: Mapping[str, str] = field(default_factory=dict)
    """`MM_CALLS_TRANSCRIBER_<X>` and the like."""

    @property
    def has_own_images(self) -> bool:
        """It does not run those of this release."""
        return any(
            f"JOBS_{name}" in self.environment for name in ("RUNNERIMAGES", "USEREFERENCEIMAGES")
        )


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
    """How jobs run; with `docker` the site is served by https, with a private CA; with `celery` a Redis and
    two workers are started."""
    rtcd_url: str = field(default="", repr=False)
    """An SFU that runs already takes the bundled one's place; may hold credentials."""
    serve: bool = False
    """No scripted call: the stack stays for people who join by the stand-in's page."""
    host: str = HOST
    """The IPv4 address at which people and jobs reach it; with `serve` by https unless it is loopback."""
    install: Install | None = None
    """Whose jobs; None: this checkout's."""
    visitor: Visitor | None = None
    """Who else comes."""
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
        "SPEECH=DIR (WAV or Opus clips with one JSON of text and word times), "
        "RTCD_URL=http(s)://[client id:auth key@]host:port (an rtcd-compatible server that runs already, "
        "in the bundled SFU's place; credentials also by RTCD_CLIENT_ID and RTCD_AUTH_KEY).",
    )
    ports = Ports()
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="results go here")
    parser.add_argument("--scenario", choices=sorted(PLANS), default="full")
    for name, port in (
        ("sfu", ports.sfu),
        ("media", ports.media),
        ("plugin", ports.plugin),
        ("offloader", ports.offloader),
        ("broker", ports.broker),
        ("worker", ports.worker),
        ("second-worker", ports.second_worker),
    ):
        parser.add_argument(f"--{name}-port", type=int, default=port, metavar="PORT")
    parser.add_argument(
        "--fault", action="append", default=[], help="upload:lost, or see testbed.bots.faults"
    )
    parser.add_argument(
        "--backend",
        choices=("process", "docker", "celery"),
        default="process",
        help="how jobs run; docker: in the images that `make images` builds, over https and wss; "
        "celery: by two workers on a Redis of the demo's own (redis-server has to be installed)",
    )
    parser.add_argument(
        "--keep", action="store_true", help="keep the run's databases and jobs in OUTPUT/work"
    )
    parser.add_argument(
        "--serve",
        action="store_true",
        help="no scripted call: leave the stack running until Ctrl-C, and join by its page",
    )
    parser.add_argument(
        "--host",
        default=HOST,
        metavar="ADDRESS",
        help="with --serve: an IPv4 address of this machine at which browsers elsewhere reach the page "
        f"(https then) and the SFU's media; default {HOST}",
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
        ports=Ports(
            given.sfu_port,
            given.media_port,
            given.plugin_port,
            given.offloader_port,
            given.broker_port,
            given.worker_port,
            given.second_worker_port,
        ),
        faults=tuple(given.fault),
        keep_work_dir=given.keep,
        backend=given.backend,
        rtcd_url=_rtcd_url(environ),
        serve=given.serve,
        host=_host(given.host, serve=given.serve),
        crash_offloader_at_s=given.crash_offloader_at,
    )


def provide_models(options: DemoOptions, work_dir: Path) -> Path:
    """A directory with one model per size, for the jobs' MODELS_DIR.

    Raises:
        OptionError: a model is missing.
    """
    if options.install is not None:
        return work_dir  # its own environment names them
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


def _host(text: str, *, serve: bool) -> str:
    if text != HOST and not serve:
        raise OptionError(f"--host={text}: goes with --serve (make demo SERVE=1 HOST={text})")
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        address = None
    if address is None or address.is_unspecified or address.is_multicast:
        raise OptionError(
            f"--host={text}: should be the one IPv4 address of this machine at which browsers reach it, "
            "such as 192.168.1.5: the SFU tells it to them"
        )
    return str(address)


def _rtcd_url(environ: Mapping[str, str]) -> str:
    """RTCD_URL, with the credentials of the environment in it; both or none of them."""
    text = environ.get("RTCD_URL", "")
    client_id, auth_key = environ.get("RTCD_CLIENT_ID", ""), environ.get("RTCD_AUTH_KEY", "")
    if not text:
        return ""
    try:
        parsed = RtcdUrl.parse(text)
    except RtcdError as error:
        raise OptionError(f"RTCD_URL: {error}") from None
    if bool(client_id) != bool(auth_key):
        raise OptionError("RTCD_CLIENT_ID and RTCD_AUTH_KEY: should be given together")
    if client_id:
        host = urlsplit(str(parsed)).netloc
        return f"{parsed.scheme}://{quote(client_id, '')}:{quote(auth_key, '')}@{host}"
    return text.rstrip("/")


def _directory(environ: Mapping[str, str], name: str) -> Path | None:
    value = environ.get(name, "")
    if not value:
        return None
    path = Path(value)
    if not path.is_dir():
        raise OptionError(f"{name}={value}: should be a directory that exists")
    return path.resolve()
