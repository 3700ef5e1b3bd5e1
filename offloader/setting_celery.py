"""The groups `jobs.celery` and `worker`, read and checked (docs/celery.md). `setting_celery_keys.py` explains
them."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from offloader.capacity_auto import calls_that_fit, read_machine
from offloader.models import JobType
from offloader.setting_broker import parse_broker_url, why_insecure
from offloader.setting_celery_keys import WORKER_API_TYPES
from offloader.setting_reader import Reader
from offloader.setting_values import split_address

_CELERY: Final = "jobs.celery."
_WORKER: Final = "worker."
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ANYWHERE: Final = ("", "0.0.0.0", "::")  # nosec B104  # compared, not bound

Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class CelerySettings:
    """The celery backend's own group."""

    broker_url: str = field(default="redis://127.0.0.1:6379/0", repr=False)
    """May hold a password."""
    allow_insecure_broker: bool = False
    queue_prefix: str = "calls"
    labels: Mapping[JobType, str] = field(default_factory=dict)
    """Label of the workers that a type's jobs are sent to; any worker's where there is none."""
    own_url: str = "http://127.0.0.1:4545"
    """Without a slash at its end."""
    claim_wait_s: float = 10.0
    transcribe_stage: bool = False

    @property
    def broker_fault(self) -> str:
        """Why service and workers refuse that broker; empty: they don't. For who uses it: a service without
        Celery leaves it alone."""
        try:
            parse_broker_url(self.broker_url)
        except ValueError as error:
            return str(error)
        return "" if self.allow_insecure_broker else why_insecure(self.broker_url)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What `offloader worker` can be told about its host."""

    name: str
    api_type: str
    """One of `WORKER_API_TYPES`."""
    listen_address: str
    url: str
    """Without a slash at its end. Empty: by the port that the door gets, where the address leaves it open."""
    slots: int
    """`auto` is a number here."""
    transcribe_slots: int
    labels: tuple[str, ...]
    only_labelled: bool
    tls_cert_file: str
    """Empty: HTTP."""
    tls_key_file: str

    @property
    def tls(self) -> bool:
        return bool(self.tls_cert_file)


def read_celery(reader: Reader, *, wanted: bool) -> CelerySettings:
    """The group; with `wanted`, because jobs run that way, what cannot be used is complained about."""

    def parsed(name: str, parse: Callable[[Any], Parsed], stand_in: Parsed) -> Parsed:
        return _parsed(reader, _CELERY + name, parse, stand_in, wanted=wanted)

    labels: Mapping[JobType, str] = {}
    celery = CelerySettings(
        broker_url=parsed("broker_url", parse_broker_url, ""),
        allow_insecure_broker=reader[_CELERY + "allow_insecure_broker"],
        queue_prefix=parsed("queue_prefix", _word, "calls"),
        labels=parsed("labels", _labels_by_type, labels),
        own_url=parsed("own_url", _base_url, ""),
        claim_wait_s=reader.at_least(_CELERY + "claim_wait_s", 1),
        transcribe_stage=reader[_CELERY + "transcribe_stage"],
    )
    if wanted and (fault := celery.broker_fault):
        reader.complain(_CELERY + "broker_url", fault)
    return celery


def read_worker(reader: Reader) -> WorkerSettings:
    """The group; what cannot be used is complained about only where somebody set it."""

    def parsed(name: str, parse: Callable[[Any], Parsed], stand_in: Parsed) -> Parsed:
        given = reader.given(_WORKER + name)
        return _parsed(reader, _WORKER + name, parse, stand_in, wanted=given)

    address = str(reader[_WORKER + "listen_address"])
    parsed("listen_address", split_address, ("", 0))
    api_type = reader[_WORKER + "api_type"]
    if api_type not in WORKER_API_TYPES:
        text = f'"{api_type}": should be one of {" ".join(WORKER_API_TYPES)}'
        reader.complain(_WORKER + "api_type", text)
    certificate, key = reader[_WORKER + "tls_cert_file"], reader[_WORKER + "tls_key_file"]
    if bool(certificate) != bool(key):
        missing, there = ("key", "cert") if certificate else ("cert", "key")
        text = f"should not be empty where worker.tls_{there}_file is set"
        reader.complain(f"{_WORKER}tls_{missing}_file", text)
    labels: tuple[str, ...] = parsed("labels", _label_list, ())
    if reader[_WORKER + "only_labelled"] and not labels:
        reader.complain(_WORKER + "only_labelled", "needs worker.labels")
    transcribe_slots = int(reader.at_least(_WORKER + "transcribe_slots", 0))
    return WorkerSettings(
        name=parsed("name", _name, "worker"),
        api_type=api_type,
        listen_address=address,
        url=parsed("url", _base_url, ""),
        slots=_slots(reader, api_type=api_type, transcribe_slots=transcribe_slots),
        transcribe_slots=transcribe_slots,
        labels=labels,
        only_labelled=reader[_WORKER + "only_labelled"],
        tls_cert_file=certificate,
        tls_key_file=key,
    )


def celery_defaults(values: Mapping[str, Any]) -> dict[str, str]:
    """The defaults that depend on the machine; `values` as the layers have them."""
    name = socket.gethostname()
    service_tls = bool(values["api.http.tls.enable"])
    worker_tls = bool(values["worker.tls_cert_file"])
    return {
        "jobs.celery.own_url": _url_of(values["api.http.listen_address"], name, tls=service_tls),
        "worker.name": name,
        "worker.url": _url_of(values["worker.listen_address"], name, tls=worker_tls),
    }


def _parsed(
    reader: Reader, name: str, parse: Callable[[Any], Parsed], stand_in: Parsed, *, wanted: bool
) -> Parsed:
    if wanted:
        return reader.parsed(name, parse, stand_in=stand_in)
    try:
        return parse(reader[name])
    except ValueError:
        return stand_in


def _slots(reader: Reader, *, api_type: str, transcribe_slots: int) -> int:
    value = reader[_WORKER + "slots"]
    if value == "auto":
        machine = read_machine(own_limits=api_type == "process")
        return calls_that_fit(machine, post_call_slots=transcribe_slots)
    return int(reader.at_least(_WORKER + "slots", 1))


def _url_of(address: str, host_name: str, *, tls: bool) -> str:
    try:
        host, port = split_address(address)
    except ValueError:
        return ""
    host = host_name if host in _ANYWHERE else host
    shown = f"[{host}]" if ":" in host else host
    return f"http{'s' if tls else ''}://{shown}:{port}"


def _base_url(value: str) -> str:
    wanted = f"{value!r}: should be http(s)://HOST:PORT without a path"
    try:
        parts = urlsplit(str(value).strip().removesuffix("/"))
        port = parts.port
    except ValueError as error:
        raise ValueError(wanted) from error
    usable = parts.scheme in ("http", "https") and parts.hostname and port != 0
    if not usable or parts.path or parts.query or parts.fragment or parts.username is not None:
        raise ValueError(wanted)
    return parts.geturl()


def _labels_by_type(value: Mapping[str, Any]) -> Mapping[JobType, str]:
    found: dict[JobType, str] = {}
    for key, label in value.items():
        if key not in set(JobType):
            kinds = " and ".join(kind.value for kind in JobType)
            raise ValueError(f"{key!r}: should be a table with the keys {kinds}")
        found[JobType(key)] = _word(label)
    return MappingProxyType(found)


def _label_list(value: Iterable[Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_word(label) for label in value))


def _word(value: Any) -> str:
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise ValueError(f"{value!r}: should be 1 to 63 letters, digits, hyphens or underscores")
    return value


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(f"{value!r}: should be letters, digits, dots, hyphens or underscores")
    return value
