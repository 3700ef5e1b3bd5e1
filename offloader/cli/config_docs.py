"""The page docs/configuration.md and the file offloader.sample.toml, made of the table of the settings."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from typing import Any, Final

from offloader.live_settings import LIVE
from offloader.setting_keys import DEFAULT_CONFIG_PATH, KEYS

_MACHINE_DEFAULTS: Final = {
    "jobs.process.recorder_command": '`["python3", "-m", "jobs.recorder"]`, the service\'s own Python',
    "jobs.process.transcriber_command": '`["python3", "-m", "jobs.transcriber"]`, the service\'s own Python',
}
"""Defaults that depend on the machine."""
_EXAMPLES: Final = {
    "api.admin_socket": "/var/lib/calls-offloader/offloader.sock",
    "store.data_source": "/var/lib/calls-offloader/offloader.db",
    "audit.file": "/var/lib/calls-offloader/offloader.audit.jsonl",
    "jobs.http_proxy": "http://proxy.example.com:3128",
    "jobs.https_proxy": "http://proxy.example.com:3128",
    "jobs.no_proxy": "localhost,chat.example.com",
    "jobs.celery.own_url": "http://offloader-1.example.com:4545",
    "worker.name": "host-1",
    "worker.url": "http://host-1.example.com:4546",
    "jobs.process.jobs_dir": "/var/lib/calls-offloader/jobs",
    "jobs.process.recorder_command": ["python3", "-m", "jobs.recorder"],
    "jobs.process.transcriber_command": ["python3", "-m", "jobs.transcriber"],
    "jobs.process.stop_grace_s": 300.0,
}
"""What the sample file shows for keys whose default depends on the machine."""
_SAMPLE_VALUES: Final = {"api.security.allow_self_registration": True, "jobs.api_type": "process"}
"""Where the sample file differs from the defaults: what one machine without containers needs."""
_SAMPLE_HEAD: Final = """\
# Configuration of the job service: every key, with its meaning and the name of its environment variable.
# What is commented out, or left out, has its default. Written by `offloader config docs --sample`; the same
# table is in docs/configuration.md. Check your own file by `offloader config check --strict --config FILE`.
#
# This one runs jobs as processes of this machine and lets the Calls plugin register itself, which is right
# where only the Mattermost server can reach the port.
"""
_HEAD: Final = f"""# Configuration of the job service

*This page is written by `offloader config docs`; change `offloader/setting_keys.py` instead.*

One TOML file, `--config FILE` (default `{DEFAULT_CONFIG_PATH}`); a missing file means defaults. The
environment overrides the file, and what neither of them sets has its default. `offloader.sample.toml` has
every key with its comment.

    offloader config check [--strict]     every problem with its place; --strict also refuses unknown keys
    offloader config show                 what is in force, and where each value comes from

Booleans in the environment are `1 t true 0 f false` in any letter case; lists are JSON or have commas, tables
are JSON. Sizes are a number of bytes or a text such as `500MiB` or `5GiB`; times are `30m`, `12h`, `30d`.
Dotted keys and tables are the same to TOML: `[api]` with `http.listen_address` is `[api.http]` with
`listen_address`.

A value that cannot be used ends the start with one line that names file or variable, key and wanted form. An
unknown key is a warning. `DEV_MODE=true` or `TEST_MODE=true` switches the checks of runner names off.

*Live* settings are taken over while the service runs ([operations.md](operations.md#changes-while-it-runs));
the others count at the next start.
"""
_TITLES: Final = {
    "api": "Door: `[api]`",
    "store": "Database: `[store]`",
    "jobs": "Jobs: `[jobs]`",
    "jobs.docker": "Docker: `[jobs.docker]`",
    "jobs.kubernetes": "Kubernetes: `[jobs.kubernetes]`",
    "jobs.celery": "Celery: `[jobs.celery]`",
    "jobs.process": "Processes: `[jobs.process]`",
    "worker": "Worker: `[worker]`",
    "tracing": "Traces: `[tracing]`",
    "notify": "A line to the admins: `[notify]`",
    "audit": "Who did what: `[audit]`",
    "logger": "Log: `[logger]`",
}


def configuration_page() -> str:
    """Markdown: a table for each group of keys."""
    parts = [_HEAD]
    for group, title in _TITLES.items():
        rows = [_row(name) for name in KEYS if group_of(name) == group]
        head = ["| Key | Environment | Default | Meaning |", "|---|---|---|---|"]
        parts.append("\n".join([f"\n## {title}\n", *head, *rows]) + "\n")
    return "".join(parts)


def sample_file() -> str:
    """TOML with every key and its comment: what runs on one machine without anything else installed.

    Keys whose default depends on the machine are commented out.
    """
    parts = [_SAMPLE_HEAD]
    for group in _TITLES:
        parts.append(f"\n[{group}]\n")
        parts += [_sample_entry(name, group) for name in KEYS if group_of(name) == group]
    return "".join(parts)


def group_of(name: str) -> str:
    """The heading that a key stands under."""
    return max((g for g in _TITLES if name.startswith(g + ".")), key=len)


def default_text(name: str) -> str:
    """The default as TOML would have it; empty where the meaning tells it."""
    value = KEYS[name].default
    return "" if value is None else toml_value(value)


def toml_value(value: Any) -> str:
    """A value as it is written in TOML."""
    if isinstance(value, Mapping):
        inside = ", ".join(f"{json.dumps(key)} = {toml_value(v)}" for key, v in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return json.dumps(value)


def _row(name: str) -> str:
    key = KEYS[name]
    default = _MACHINE_DEFAULTS.get(name) or (
        f"`{text}`" if (text := default_text(name)) else "see there"
    )
    meaning = key.help.replace("|", r"\|") + (" *Live.*" if name in LIVE else "")
    return f"| `{name}` | `{key.env}` | {default} | {meaning} |"


def _sample_entry(name: str, group: str) -> str:
    key = KEYS[name]
    comment = textwrap.wrap(f"{key.help} ({key.env})", 96, break_on_hyphens=False)
    lines = [f"# {line}" for line in comment]
    value = _SAMPLE_VALUES.get(name, key.default)
    depends = key.default is None or name in _MACHINE_DEFAULTS
    shown = toml_value(_EXAMPLES.get(name, value))
    lines.append(f"{'# ' if depends else ''}{name.removeprefix(group + '.')} = {shown}")
    return "\n".join(lines) + "\n\n"
