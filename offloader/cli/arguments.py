"""The command line: commands, options, their help. Sets `run` to what carries the command out."""

from __future__ import annotations

import argparse
from typing import Final

from offloader.cli.command_groups import (
    Commands,
    Group,
    add_common,
    add_config,
    add_door,
    at_the_service,
)
from offloader.cli.host_arguments import (
    add_audit,
    add_configuration,
    add_doctor,
    add_models,
    add_selftest,
    add_store,
    add_support_bundle,
)
from offloader.cli.job_arguments import add_clients, add_data, add_jobs
from offloader.cli.values import positive
from offloader.setting_keys import DEFAULT_CONFIG_PATH

_EXIT_CODES: Final = """\
exit codes: 0 done; 1 refused or failed, one sentence on standard error says why; 2 bad usage;
3 the service cannot be reached. Commands reach the service by its local socket (api.admin_socket,
for root and the service's own user), else by its address with the admin's key of the configuration.
"""


def parser() -> argparse.ArgumentParser:
    """All commands."""
    top = argparse.ArgumentParser(
        prog="offloader",
        description="Job service for recording and transcribing Mattermost calls.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config(top, default=DEFAULT_CONFIG_PATH)
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the service (also without COMMAND)")
    add_config(serve, default=argparse.SUPPRESS)
    worker = commands.add_parser("worker", help="run jobs that Celery hands to this host")
    add_config(worker, default=argparse.SUPPRESS)
    add_jobs(Group(commands, "jobs", "look at jobs, stop them, publish what they left"))
    add_clients(Group(commands, "clients", "who may use the service"))
    _add_keys(Group(commands, "keys", "the secret keys that tokens are stored under"))
    add_data(Group(commands, "data", "what is kept of a call, a channel or a person"))
    _add_state(commands)
    add_configuration(Group(commands, "config", "check and explain the configuration"))
    add_audit(Group(commands, "audit", "the record of who did what"))
    add_store(Group(commands, "store", "back the database up, restore it, look it over"))
    add_doctor(commands)
    add_support_bundle(commands)
    add_selftest(commands)
    add_models(Group(commands, "models", "list, verify and convert speech models"))
    _add_notify(Group(commands, "notify", "the admins' channel that gets a line"))
    return top


def _add_keys(group: Group) -> None:
    group.add("list", "list_keys", "the keys, the newest first, and what is stored under each")
    group.add("add", "add", "put a new key in front of the others, into the key file")
    group.add("renew", "renew", "store under the newest key what is stored under older ones")
    group.add("prune", "prune", "renew, then take the older keys out of the key file")


def _add_state(commands: Commands) -> None:
    for name, text in (
        ("status", "calls in progress, unpublished results, and whether a restart is safe"),
        ("drain", "refuse new jobs"),
        ("undrain", "take new jobs again"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        add_common(command)
        add_door(command)
        command.set_defaults(run=at_the_service("status", name))
        if name == "status":
            command.add_argument(
                "--safe", action="store_true", help="exit code 1 unless a restart is safe"
            )
        if name == "drain":
            command.add_argument("--wait", action="store_true", help="until no job is running")
            command.add_argument(
                "--timeout", type=positive, metavar="S", help="seconds to wait at most"
            )


def _add_notify(group: Group) -> None:
    group.add("test", "test", "send a line to notify.mattermost_webhook and say whether it arrived")
