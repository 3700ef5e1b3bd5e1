"""Step `config`: the file, unknown keys, wrong values, choices that somebody will regret."""

from __future__ import annotations

import ipaddress
import stat
from collections.abc import Iterator, Sequence
from typing import Final

from offloader.doctor.finding import Finding, failure, note, ok, skipped, warning
from offloader.doctor.step import Context, Step, aside
from offloader.setting_files import unusable_files
from offloader.setting_keys import KEYS
from offloader.setting_values import split_address
from offloader.settings import SHORT_KEY, Settings
from offloader.store.key_place import VARIABLE

_UNIT_ENVIRONMENT: Final = "etc/default/calls-offloader"
_SHORT_GRACE_S: Final = 60.0


async def look(context: Context) -> Sequence[Finding]:
    """What `offloader config check --strict` tells, and weak choices."""
    return await aside(lambda: list(_look(context)))


def _look(context: Context) -> Iterator[Finding]:
    reading = context.reading
    yield from _file(context)
    yield from _environment_elsewhere(context)
    wrong = list(_wrong(context))
    yield from wrong
    if wrong:
        yield skipped("config_weak_skipped", "weak choices", "values are wrong")
        return
    weak = [*_security(reading.settings), *_loss(reading.settings)]
    weak += _other_warnings(context)
    yield from weak
    if not weak:
        yield ok("config_good", "values", f"{len(KEYS)} keys, none wrong, no weak choice")


def _file(context: Context) -> Iterator[Finding]:
    path, reading = context.config_path, context.reading
    if not reading.file_found:
        yield note(
            "config_no_file",
            "file",
            f"{path}: no such file",
            cause="defaults and environment apply; a service that was started with --config has another one",
            fix=(f"offloader config docs --sample > {path}", "offloader doctor --config FILE"),
        )
        return
    secrets = [n for n in KEYS if reading.sources[n] == "file" and _is_secret(n, reading.values[n])]
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return  # what cannot be read is told as a wrong value
    if secrets and mode & stat.S_IROTH:
        yield warning(
            "config_secret_readable",
            "file",
            f"{path}: mode {mode:04o}",
            cause=f"everybody on this host can read {', '.join(secrets)}",
            fix=(f"chmod 640 {path}", f"chown root:calls-offloader {path}"),
        )
    else:
        given = sum(source == "file" for source in reading.sources.values())
        yield ok("config_file", "file", f"{path}: {given} keys", data={"mode": f"{mode:04o}"})
    for name in reading.unknown:
        yield warning(
            "config_unknown_key",
            name,
            "unknown",
            cause="it has no effect: misspelt, or of another release",
            fix=(f"offloader config docs | grep {name.rsplit('.', 1)[-1]}",),
        )


def _is_secret(name: str, value: object) -> bool:
    """A key; a URL only with somebody's name in it."""
    if "://" in str(value):
        return "@" in str(value)
    return KEYS[name].secret and bool(value)


def _environment_elsewhere(context: Context) -> Iterator[Finding]:
    """What systemd gives the service, and this shell has not: other settings are examined then."""
    path = context.root / _UNIT_ENVIRONMENT
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    names = {line.partition("=")[0].strip() for line in lines if not line.lstrip().startswith("#")}
    known = {key.env for key in KEYS.values() if key.env} | {VARIABLE}
    missing = sorted(name for name in names & known if name not in context.environ)
    if missing:
        yield warning(
            "config_environment_elsewhere",
            str(path),
            ", ".join(missing),
            cause="the service has these variables, and this shell has not: other settings are examined",
            fix=(f"set -a; . {path}; set +a; offloader doctor",),
        )


def _wrong(context: Context) -> Iterator[Finding]:
    reading = context.reading
    problems = list(reading.problems)
    if not problems:
        problems += unusable_files(reading)
    for problem in problems:
        yield failure(
            "config_wrong_value",
            problem.key or "file",
            f"{problem.place}: {problem.value}" if problem.value else problem.place,
            cause=problem.text,
            fix=(f"correct {problem.key or problem.place}, then: offloader config check --strict",),
        )


def _security(settings: Settings) -> Iterator[Finding]:
    api = settings.api
    exposed = not _loopback(api.listen_address)
    if api.enable_admin and len(api.admin_secret_key) < SHORT_KEY:
        yield warning(
            "config_admin_key_weak",
            "api.security.admin_secret_key",
            f"{len(api.admin_secret_key)} characters",
            cause="whoever guesses it may read recordings and stop jobs",
            fix=("openssl rand -base64 32", "api.security.admin_secret_key = its output"),
        )
    if api.enable_admin and exposed and not api.tls.enable:
        yield warning(
            "config_admin_without_tls",
            "api.security.enable_admin",
            f"without TLS on {api.listen_address}",
            cause="the admin's key crosses the network unencrypted",
            fix=("api.http.tls.enable = true", "or a TLS proxy in front, and listen on 127.0.0.1"),
        )
    if api.allow_self_registration and exposed:
        yield note(
            "config_self_registration",
            "api.security.allow_self_registration",
            f"on, {api.listen_address}",
            cause="whoever reaches this port may run jobs: right where only the Mattermost server does",
            fix=(
                "offloader clients add ID",
                "api.security.allow_self_registration = false",
            ),
        )
    if not settings.jobs.check_runners:
        yield warning(
            "config_checks_off",
            "DEV_MODE or TEST_MODE",
            "true",
            cause="names of runners are not checked: a client may run any image",
            fix=("unset DEV_MODE and TEST_MODE in the service's environment",),
        )


def _loss(settings: Settings) -> Iterator[Finding]:
    jobs = settings.jobs
    if jobs.stop_grace_s < _SHORT_GRACE_S:
        yield warning(
            "config_grace_short",
            "jobs.stop_grace_s",
            f"{jobs.stop_grace_s:g} s",
            cause="jobs that are stopped are killed before they have uploaded",
            fix=("jobs.stop_grace_s = 300.0",),
        )
    if jobs.min_free_disk_bytes is None:
        yield warning(
            "config_disk_not_watched",
            "jobs.min_free_disk",
            "0",
            cause="jobs start on a full disk, and end there",
            fix=('jobs.min_free_disk = "1GiB"',),
        )
    kept = {
        "jobs.failed_jobs_retention_time": jobs.failed_jobs_retention,
        "jobs.completed_jobs_retention_time": jobs.completed_jobs_retention,
    }
    for name, retention in kept.items():
        if retention is None:
            yield note(
                "config_kept_for_ever",
                name,
                "0: for ever",
                cause="records, logs and files of these jobs fill the disk in the end",
                fix=(f'{name} = "{KEYS[name].default}"',),
            )


def _other_warnings(context: Context) -> list[Finding]:
    """What the service itself would log at its start, and no other finding tells."""
    told = (f"{context.config_path}: ", "store.data_source: ", "api.security.admin_secret_key: ")
    return [
        warning("config_warning", text.partition(": ")[0], text.partition(": ")[2])
        for text in context.settings.warnings
        if not text.startswith(told)
    ]


def _loopback(address: str) -> bool:
    host, _ = split_address(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


CONFIGURATION: Final = Step("config", "Configuration", look, needs_settings=False)
