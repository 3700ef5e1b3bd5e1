"""The command line: commands, options, their help. Sets `run` to what carries the command out."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Final

from offloader.cli.values import hold_reason, mattermost_id, positive
from offloader.models import JobState, JobType
from offloader.retranscription_wish import ENGINES
from offloader.setting_keys import DEFAULT_CONFIG_PATH

_EXIT_CODES: Final = """\
exit codes: 0 done; 1 refused or failed, one sentence on standard error says why; 2 bad usage;
3 the service cannot be reached. Commands reach the service by its local socket (api.admin_socket,
for root and the service's own user), else by its address with the admin's key of the configuration.
"""

Action = Callable[[argparse.Namespace], None]


def parser() -> argparse.ArgumentParser:
    """All commands."""
    top = argparse.ArgumentParser(
        prog="offloader",
        description="Job service for recording and transcribing Mattermost calls.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_config(top, default=DEFAULT_CONFIG_PATH)
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the service (also without COMMAND)")
    _add_config(serve, default=argparse.SUPPRESS)
    worker = commands.add_parser("worker", help="run jobs that Celery hands to this host")
    _add_config(worker, default=argparse.SUPPRESS)
    _add_jobs(_Group(commands, "jobs", "look at jobs, stop them, publish what they left"))
    _add_clients(_Group(commands, "clients", "who may use the service"))
    _add_keys(_Group(commands, "keys", "the secret keys that tokens are stored under"))
    _add_data(_Group(commands, "data", "what is kept of a call, a channel or a person"))
    _add_state(commands)
    _add_configuration(_Group(commands, "config", "check and explain the configuration"))
    _add_audit(_Group(commands, "audit", "the record of who did what"))
    _add_store(_Group(commands, "store", "back the database up, restore it, look it over"))
    _add_doctor(commands)
    _add_support_bundle(commands)
    _add_selftest(commands)
    _add_models(_Group(commands, "models", "list, verify and convert speech models"))
    _add_notify(_Group(commands, "notify", "the admins' channel that gets a line"))
    return top


class _Group:
    """A command with commands of its own."""

    def __init__(
        self, commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
    ) -> None:
        self._name = name
        group = commands.add_parser(name, help=text, description=text)
        self._commands = group.add_subparsers(dest="action", metavar="COMMAND", required=True)

    def add(
        self, name: str, function: str, text: str, *, module: str = ""
    ) -> argparse.ArgumentParser:
        """`function` is the name in the module of the group, or in `module`."""
        command = self._commands.add_parser(name, help=text, description=text)
        _add_common(command)
        if self._name in ("config", "models", "notify", "audit", "store"):
            command.set_defaults(run=_locally(self._name, function))
        else:
            _add_door(command)
            command.set_defaults(run=_at_the_service(module or self._name, function))
        return command


def _add_jobs(group: _Group) -> None:
    command = group.add("list", "list_jobs", "jobs, the newest first")
    command.add_argument("--type", choices=[kind.value for kind in JobType])
    command.add_argument("--state", choices=[state.value for state in JobState])
    command.add_argument(
        "--since", metavar="TIME", help="2h, 7d, or a time such as 2026-01-31T10:00:00Z"
    )
    command.add_argument("--limit", type=positive, default=50, metavar="N", help="at most (50)")
    command = group.add("show", "show", "everything about one job, and its last log lines")
    _add_id(command)
    command = group.add("logs", "logs", "the log of a job, also when it is gone")
    _add_id(command)
    command.add_argument("-f", "--follow", action="store_true", help="go on until the job ends")
    command = group.add("stop", "stop", "tell a job to leave its call, finish and upload")
    _add_id(command)
    command = group.add("artifacts", "artifacts", "the files a job left; with NAME, fetch them")
    _add_id(command)
    command.add_argument("name", nargs="*", metavar="NAME", help="a file to fetch")
    command.add_argument("-o", "--output", type=Path, metavar="DIR", help="where to (here)")
    command = group.add(
        "verify", "verify", "are the files that jobs kept still what they wrote", module="verify"
    )
    command.add_argument("id", nargs="?", metavar="JOB")
    command.add_argument("--all", action="store_true", help="every job that has kept files")
    command = group.add("republish", "republish", "try now to publish what a job could not")
    _add_id(command)
    command.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="a token of the Calls bot for its site, - for standard input; else the newest known one",
    )

    command = group.add("retranscribe", "retranscribe", "transcribe the audio a job kept again")
    _add_id(command)
    command.add_argument("--model", metavar="NAME", help="a folder of the models' directory")
    command.add_argument("--language", metavar="CODE", help="de, several with commas, or auto")
    command.add_argument("--engine", choices=ENGINES, help="another one than the job had")
    command.add_argument(
        "--engine-options",
        type=Path,
        metavar="FILE",
        help="JSON object with a speech service's options and keys, - for standard input",
    )
    command.add_argument(
        "--vocabulary", metavar="WORDS", help="words and names, separated by commas"
    )
    command.add_argument("--publish", action="store_true", help="post the new transcript, too")
    command.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="with --publish: a token of the Calls bot, - for standard input; else the newest known one",
    )


def _add_clients(group: _Group) -> None:
    group.add("list", "list_clients", "the registered clients")
    for name, text in (
        ("add", "register a client"),
        ("rotate", "give a client another key; the old one ends at once"),
    ):
        command = group.add(name, name, text)
        command.add_argument("client_id", metavar="ID")
        command.add_argument(
            "--key-file",
            type=Path,
            metavar="FILE",
            help="its key, - for standard input; else a new random one is made and shown",
        )
    command = group.add("revoke", "revoke", "forget a client; its jobs go on")
    command.add_argument("client_id", metavar="ID")
    command = group.add(
        "adopt", "adopt", "give a client the jobs that earlier registrations of its name left"
    )
    command.add_argument("client_id", metavar="ID")


def _add_keys(group: _Group) -> None:
    group.add("list", "list_keys", "the keys, the newest first, and what is stored under each")
    group.add("add", "add", "put a new key in front of the others, into the key file")
    group.add("renew", "renew", "store under the newest key what is stored under older ones")
    group.add("prune", "prune", "renew, then take the older keys out of the key file")


def _add_data(group: _Group) -> None:
    for name, text in (
        ("find", "the jobs with data of it; changes nothing"),
        ("delete", "delete these jobs: record, log, files, token"),
        ("hold", "keep these jobs from every sweep and deletion"),
    ):
        command = group.add(name, name, text)
        subject = command.add_mutually_exclusive_group(required=True)
        subject.add_argument(
            "--call",
            type=mattermost_id,
            metavar="ID",
            help="a call's post: all jobs of that call; or the plugin's ID of one recording or transcription",
        )
        subject.add_argument(
            "--channel", type=mattermost_id, metavar="ID", help="every call of a channel"
        )
        subject.add_argument(
            "--user",
            type=mattermost_id,
            metavar="ID",
            help="who took part, as far as files here tell that",
        )
        if name == "hold":
            command.add_argument(
                "--reason",
                type=hold_reason,
                metavar="TEXT",
                help="shown to whoever would delete it",
            )
            command.add_argument("--release", action="store_true", help="hold them no longer")


def _add_state(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, text in (
        ("status", "calls in progress, unpublished results, and whether a restart is safe"),
        ("drain", "refuse new jobs"),
        ("undrain", "take new jobs again"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        _add_common(command)
        _add_door(command)
        command.set_defaults(run=_at_the_service("status", name))
        if name == "status":
            command.add_argument(
                "--safe", action="store_true", help="exit code 1 unless a restart is safe"
            )
        if name == "drain":
            command.add_argument("--wait", action="store_true", help="until no job is running")
            command.add_argument(
                "--timeout", type=positive, metavar="S", help="seconds to wait at most"
            )


def _add_configuration(group: _Group) -> None:
    command = group.add("check", "check", "every problem, with file, key, value and wanted form")
    command.add_argument("--strict", action="store_true", help="refuse unknown keys too")
    group.add("show", "show", "the values in force and where they come from")
    command = group.add("docs", "docs", "the page that explains every key")
    command.add_argument("--sample", action="store_true", help="a file with every key instead")


def _add_audit(group: _Group) -> None:
    command = group.add("verify", "verify", "name the first line that is not as it was written")
    command.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="another one than audit.file"
    )


def _add_store(group: _Group) -> None:
    command = group.add("backup", "backup", "write a consistent copy; the service may run")
    command.add_argument("file", type=Path, metavar="FILE", help="a new file")
    command.add_argument(
        "--with-key", action="store_true", help="put the key of the stored tokens into it, too"
    )
    command = group.add("restore", "restore", "put a backup in place; the service must not run")
    command.add_argument("file", type=Path, metavar="FILE", help="what `backup` wrote")
    command = group.add("check", "check", "is it whole, of this release, and does the key open it")
    command.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="a backup in place of the store"
    )


def _add_doctor(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "examine this installation step by step: verdict, cause, fix"
    command = commands.add_parser(
        "doctor",
        help=text,
        description=text,
        epilog="exit codes: 0 all is well; 4 warnings; 5 failures; 1 and 2 as of all commands.",
    )
    _add_common(command)
    command.add_argument("--site-url", metavar="URL", help="the Mattermost server: look at it, too")
    command.add_argument(
        "--token",
        help="a Mattermost token for it; others on this host see arguments: better --token-file, "
        "or the variable OFFLOADER_DOCTOR_TOKEN",
    )
    command.add_argument(
        "--token-file", type=Path, metavar="FILE", help="that token, - for standard input"
    )
    command.add_argument("--ca-cert", type=Path, metavar="FILE", help="PEM file of the site's CA")
    command.add_argument(
        "--rtcd-url", metavar="URL", help="the SFU as the plugin has it: look at it, too"
    )
    command.add_argument(
        "--channel", metavar="ID", help="where the probe of the upload may be made (a channel's ID)"
    )
    for option, text in (("--only", "these steps alone"), ("--skip", "not these steps")):
        command.add_argument(
            option, action="append", default=[], metavar="STEP[,STEP]", help=f"{text}; repeatable"
        )
    command.add_argument(
        "--quick", action="store_true", help="without measurements that take seconds"
    )
    command.add_argument(
        "--worker", action="store_true", help="this host runs `offloader worker`: look at its jobs"
    )
    command.add_argument(
        "--write", action="store_true", help="put what was measured into the configuration file"
    )
    command.add_argument("--yes", action="store_true", help="with --write: do not ask first")
    command.set_defaults(run=_locally("doctor", "doctor"))


def _add_support_bundle(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "collect what somebody who helps needs to see, without secrets, in one file"
    command = commands.add_parser("support-bundle", help=text, description=text)
    _add_common(command)
    command.add_argument("--output", type=Path, metavar="FILE", help="a new file (.tar.gz)")
    command.add_argument("--yes", action="store_true", help="write it without asking")
    command.add_argument("--socket", type=Path, metavar="PATH", help="the service's local socket")
    command.add_argument("--url", help="a service elsewhere, such as https://host:4545")
    command.add_argument("--site-url", metavar="URL", help="let the doctor look at this site, too")
    command.add_argument(
        "--token-file", type=Path, metavar="FILE", help="a Mattermost token for the doctor, or -"
    )
    command.add_argument(
        "--ca-cert", type=Path, metavar="FILE", help="PEM file of the CA of the site and of --url"
    )
    command.add_argument("--rtcd-url", metavar="URL", help="the SFU, for the doctor")
    command.set_defaults(
        run=_locally("support_bundle", "support_bundle"), token=None, channel=None, quick=True
    )


def _add_models(group: _Group) -> None:
    listing = group.add("list", "list_models", "models with size, hash and place")
    verifying = group.add("verify", "verify", "is each model complete, and as its SHA256SUMS says")
    verifying.add_argument("name", nargs="*", metavar="NAME", help="these alone")
    verifying.add_argument(
        "--manifest", type=Path, metavar="FILE", help="a SHA256SUMS in place of the models' own"
    )
    converting = group.add("convert", "convert", "make one from a Whisper model in safetensors")
    converting.add_argument(
        "source", type=Path, metavar="DIR", help="model.safetensors, config.json, tokenizer.json …"
    )
    converting.add_argument("--name", help="what its folder is called (as DIR)")
    converting.add_argument(
        "--quantization",
        choices=("float16", "int8", "float32"),
        default="float16",
        help="how its weights are stored (float16)",
    )
    for command in (listing, verifying, converting):
        command.add_argument(
            "--models-dir",
            type=Path,
            metavar="DIR",
            help="where models are; else what the configuration says, else MODELS_DIR",
        )


def _add_selftest(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "record, transcribe and caption a real call on this installation, and judge the result"
    command = commands.add_parser(
        "selftest",
        help=text,
        description=f"{text}: a minute through a bundled SFU and a stand-in for Mattermost, on free ports, "
        "beside the running service and without it.",
    )
    _add_config(command, default=argparse.SUPPRESS)
    command.add_argument(
        "--backend", choices=("process", "docker"), help="another one than jobs.api_type"
    )
    command.add_argument("--short", action="store_true", help="half a minute instead")
    command.add_argument(
        "--model", default="", metavar="NAME", help="speech model of the transcript (base)"
    )
    command.add_argument(
        "--captions-model", default="", metavar="NAME", help="speech model of the captions (tiny)"
    )
    command.add_argument(
        "--force", action="store_true", help="also when the running service has no room left"
    )
    command.add_argument("--socket", type=Path, metavar="PATH", help="the service's local socket")
    command.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="keep recording, transcript and logs there"
    )
    command.set_defaults(run=_locally("selftest", "selftest"))


def _add_notify(group: _Group) -> None:
    group.add("test", "test", "send a line to notify.mattermost_webhook and say whether it arrived")


def _locally(module: str, function: str) -> Action:
    def run(arguments: argparse.Namespace) -> None:
        action: Action = getattr(import_module(f"offloader.cli.{module}"), function)
        action(arguments)

    return run


def _at_the_service(module: str, function: str) -> Action:
    def run(arguments: argparse.Namespace) -> None:
        from offloader.cli.doors import find_door
        from offloader.cli.requests import ServiceClient
        from offloader.settings import load_settings

        door = find_door(
            load_settings(arguments.config, os.environ).api,
            socket_path=arguments.socket,
            url=arguments.url,
            ca_file=arguments.ca_cert,
        )
        action = getattr(import_module(f"offloader.cli.{module}"), function)
        action(ServiceClient(door), arguments)

    return run


def _add_common(command: argparse.ArgumentParser) -> None:
    _add_config(command, default=argparse.SUPPRESS)
    command.add_argument("--json", action="store_true", help="JSON instead of text")


def _add_door(command: argparse.ArgumentParser) -> None:
    command.add_argument("--socket", type=Path, metavar="PATH", help="the service's local socket")
    command.add_argument("--url", help="a service elsewhere, such as https://host:4545")
    command.add_argument("--ca-cert", type=Path, metavar="FILE", help="PEM file of its CA")


def _add_id(command: argparse.ArgumentParser) -> None:
    command.add_argument("id", metavar="JOB")


def _add_config(command: argparse.ArgumentParser, *, default: Path | str) -> None:
    command.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=default,
        help=f"TOML file (default {DEFAULT_CONFIG_PATH}; a missing file means defaults)",
    )
