"""Commands that work on this host, without the service: options, their help."""

from __future__ import annotations

import argparse
from pathlib import Path

from offloader.cli.command_groups import Commands, Group, add_common, add_config, locally


def add_doctor(commands: Commands) -> None:
    text = "examine this installation step by step: verdict, cause, fix"
    command = commands.add_parser(
        "doctor",
        help=text,
        description=text,
        epilog="exit codes: 0 all is well; 4 warnings; 5 failures; 1 and 2 as of all commands.",
    )
    add_common(command)
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
    command.set_defaults(run=locally("doctor", "doctor"))


def add_support_bundle(commands: Commands) -> None:
    text = "collect what somebody who helps needs to see, without secrets, in one file"
    command = commands.add_parser("support-bundle", help=text, description=text)
    add_common(command)
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
        run=locally("support_bundle", "support_bundle"), token=None, channel=None, quick=True
    )


def add_selftest(commands: Commands) -> None:
    text = "record, transcribe and caption a real call on this installation, and judge the result"
    command = commands.add_parser(
        "selftest",
        help=text,
        description=f"{text}: a minute through a bundled SFU and a stand-in for Mattermost, on free ports, "
        "beside the running service and without it.",
    )
    add_config(command, default=argparse.SUPPRESS)
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
    command.set_defaults(run=locally("selftest", "selftest"))


def add_models(group: Group) -> None:
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


def add_store(group: Group) -> None:
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


def add_audit(group: Group) -> None:
    command = group.add("verify", "verify", "name the first line that is not as it was written")
    command.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="another one than audit.file"
    )


def add_configuration(group: Group) -> None:
    command = group.add("check", "check", "every problem, with file, key, value and wanted form")
    command.add_argument("--strict", action="store_true", help="refuse unknown keys too")
    group.add("show", "show", "the values in force and where they come from")
    command = group.add("docs", "docs", "the page that explains every key")
    command.add_argument("--sample", action="store_true", help="a file with every key instead")
