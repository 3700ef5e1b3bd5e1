"""What a job is told: environment variables, checked with the reference's texts (calls-plugin.md 9)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self, cast, get_args
from urllib.parse import urlsplit

from callclient.ice_policy import IceTransportPolicy
from foundation.copies.stores import StoreError, open_store
from foundation.spans import traceparent_or_none

_ID = re.compile(r"[a-z0-9]{26}")
_ICE_TRANSPORTS: tuple[str, ...] = get_args(IceTransportPolicy)
_LONGEST_S = 2**31 - 1
_STOP_GRACE_S = 300


class SettingsError(ValueError):
    """A variable is missing or unusable; the message is the reference's, or names variable and value."""


@dataclass(frozen=True, slots=True)
class JobSettings:
    """What every job has."""

    not_kept: ClassVar[frozenset[str]] = frozenset(
        {"auth_token", "data_dir", "max_duration_s", "stop_grace_s", "livekit_url"}
    )
    """Fields that `job.json` leaves out: secrets, what another process knows better or does not need."""
    derived_files: ClassVar[frozenset[str]] = frozenset()
    """Files in the job's directory that can be made again from the others, so that no copy needs them."""
    sources_of_derived: ClassVar[frozenset[str]] = frozenset()
    """What those are made from; it may go when they are there."""

    site_url: str
    call_id: str
    """The channel's id (trap 1)."""
    post_id: str
    job_id: str
    """The plugin's: RECORDING_ID or TRANSCRIPTION_ID."""
    auth_token: str = field(repr=False)
    data_dir: Path = Path("/data")
    ca_file: Path | None = None
    site_is_allowed: bool = False
    """The admin has named the site, so that it may have any address. SITE_URL_ALLOWED."""
    max_duration_s: int = 0
    """When the service would stop it; 0: unknown. MAX_DURATION_S."""
    stop_grace_s: int = _STOP_GRACE_S
    """From that stop to the kill. STOP_GRACE_S."""
    ice_transport: IceTransportPolicy = "all"
    """Which ways media may take. ICE_TRANSPORT."""
    livekit_url: str = ""
    """Where the call's media is, if it is not on an rtcd. LIVEKIT_URL."""
    files_go_with_job: bool = False
    """Nobody can finish the job from its directory when it has ended. FILES_GO_WITH_JOB."""
    copies_url: str = ""
    """Where the job's files are copied to while it works; empty: nowhere. COPIES_URL."""
    traceparent: str = ""
    """Whose child the job is in a trace (W3C Trace Context); empty: nobody's. TRACEPARENT."""

    @property
    def directory(self) -> Path:
        """Where this job keeps its files."""
        return self.data_dir / self.job_id

    def to_document(self) -> dict[str, Any]:
        """For `job.json`: everything needed to finish the job later, but no secret."""
        return {
            key: str(value) if isinstance(value, Path) else value
            for key, value in asdict(self).items()
            if key not in self.not_kept
        }

    @classmethod
    def from_document(
        cls, document: Mapping[str, Any], *, auth_token: str, directory: Path
    ) -> Self:
        """The settings of a job whose directory is `directory`.

        Raises:
            SettingsError: the document does not hold a job's settings.
        """
        known = {entry.name: str(entry.type) for entry in fields(cls)}
        values = {key: value for key, value in document.items() if key in known}
        for key, value in values.items():
            if known[key].startswith("Path") and value is not None:
                values[key] = Path(value)
        values |= {"auth_token": auth_token, "data_dir": directory.parent}
        try:
            return cls(**values)
        except TypeError as error:
            raise SettingsError(f"{directory / 'job.json'}: {error}") from error


def read_common(environ: Mapping[str, str], *, job_id_variable: str) -> JobSettings:
    """The common part. Raises SettingsError for the first rule broken, in the reference's order."""
    if not environ:
        raise SettingsError("config cannot be empty")
    ca_file = environ.get("TLS_CA_CERT_FILE", "")
    return JobSettings(
        site_url=_site_url(environ.get("SITE_URL", "")),
        call_id=_id(environ, "CALL_ID", "CallID"),
        post_id=_id(environ, "POST_ID", "PostID"),
        auth_token=_id({"AUTH_TOKEN": read_auth_token(environ)}, "AUTH_TOKEN", "AuthToken"),
        job_id=_id(
            environ,
            job_id_variable,
            "RecordingID" if job_id_variable == "RECORDING_ID" else "TranscriptionID",
        ),
        data_dir=Path(environ.get("DATA_DIR") or "/data"),
        ca_file=Path(ca_file) if ca_file else None,
        site_is_allowed=bool_setting(environ, "SITE_URL_ALLOWED"),
        max_duration_s=_seconds(environ, "MAX_DURATION_S", default=0),
        stop_grace_s=_seconds(environ, "STOP_GRACE_S", default=_STOP_GRACE_S),
        ice_transport=_ice_transport(environ),
        livekit_url=environ.get("LIVEKIT_URL", "").strip(),
        files_go_with_job=bool_setting(environ, "FILES_GO_WITH_JOB"),
        copies_url=_copies_url(environ),
        traceparent=traceparent_or_none(environ.get("TRACEPARENT", "").strip()),
    )


def read_auth_token(environ: Mapping[str, str]) -> str:
    """AUTH_TOKEN, else what the file holds that AUTH_TOKEN_FILE names; empty when there is neither. Blocks.

    Raises:
        SettingsError: that file cannot be read.
    """
    path = environ.get("AUTH_TOKEN_FILE", "")
    if environ.get("AUTH_TOKEN") or not path:
        return environ.get("AUTH_TOKEN", "")
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds no token"
        raise SettingsError(f"AUTH_TOKEN_FILE={path}: cannot be read: {reason}") from error


def int_setting(
    environ: Mapping[str, str], variable: str, *, name: str, default: int, low: int, high: int
) -> int:
    """A whole number in a range; empty or 0 means the default. `name` is the reference's field name."""
    text = environ.get(variable, "").strip()
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        raise SettingsError(f"failed to parse {name}: {variable}={text!r}") from None
    if value == 0:
        return default
    if not low <= value <= high:
        raise SettingsError(f"{name} value is not valid")
    return value


def _seconds(environ: Mapping[str, str], variable: str, *, default: int) -> int:
    return int_setting(environ, variable, name=variable, default=default, low=1, high=_LONGEST_S)


def bool_setting(environ: Mapping[str, str], variable: str, *, default: bool = False) -> bool:
    """True and false in Go's forms (trap 40: overridden inputs are texts)."""
    text = environ.get(variable, "").strip().lower()
    if not text:
        return default
    if text in ("1", "t", "true"):
        return True
    if text in ("0", "f", "false"):
        return False
    raise SettingsError(f"{variable}={text!r}: should be true or false")


def choice_setting(
    environ: Mapping[str, str], variable: str, *, name: str, default: str, choices: Sequence[str]
) -> str:
    """One of `choices`; empty means the default."""
    text = environ.get(variable, "").strip()
    if not text:
        return default
    if text not in choices:
        raise SettingsError(f"{name} value is not valid")
    return text


def _ice_transport(environ: Mapping[str, str]) -> IceTransportPolicy:
    value = choice_setting(
        environ, "ICE_TRANSPORT", name="ICETransport", default="all", choices=_ICE_TRANSPORTS
    )
    return cast(IceTransportPolicy, value)


def _copies_url(environ: Mapping[str, str]) -> str:
    url = environ.get("COPIES_URL", "").strip()
    try:
        if url:
            open_store(url)
    except StoreError as error:
        raise SettingsError(f"COPIES_URL: {error}") from error
    return url


def _site_url(text: str) -> str:
    if not text:
        raise SettingsError("SiteURL cannot be empty")
    url = text.removesuffix("/")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise SettingsError(f'SiteURL parsing failed: invalid scheme "{parts.scheme}"')
    if parts.path:
        raise SettingsError(f'SiteURL parsing failed: invalid path "{parts.path}"')
    if not parts.netloc:
        raise SettingsError("SiteURL parsing failed: no host")
    return url


def _id(environ: Mapping[str, str], variable: str, name: str) -> str:
    text = environ.get(variable, "")
    if not text:
        raise SettingsError(f"{name} cannot be empty")
    if not _ID.fullmatch(text):
        raise SettingsError(f"{name} parsing failed")
    return text
