"""Commands about jobs, what they keep, and the clients that ask for them: options, their help."""

from __future__ import annotations

from pathlib import Path

from offloader.cli.command_groups import Group, add_id
from offloader.cli.values import hold_reason, mattermost_id, positive
from offloader.models import JobState, JobType
from offloader.retranscription_wish import ENGINES


def add_jobs(group: Group) -> None:
    command = group.add("list", "list_jobs", "jobs, the newest first")
    command.add_argument("--type", choices=[kind.value for kind in JobType])
    command.add_argument("--state", choices=[state.value for state in JobState])
    command.add_argument(
        "--since", metavar="TIME", help="2h, 7d, or a time such as 2026-01-31T10:00:00Z"
    )
    command.add_argument("--limit", type=positive, default=50, metavar="N", help="at most (50)")
    command = group.add("show", "show", "everything about one job, and its last log lines")
    add_id(command)
    command = group.add("logs", "logs", "the log of a job, also when it is gone")
    add_id(command)
    command.add_argument("-f", "--follow", action="store_true", help="go on until the job ends")
    command = group.add("stop", "stop", "tell a job to leave its call, finish and upload")
    add_id(command)
    command = group.add("artifacts", "artifacts", "the files a job left; with NAME, fetch them")
    add_id(command)
    command.add_argument("name", nargs="*", metavar="NAME", help="a file to fetch")
    command.add_argument("-o", "--output", type=Path, metavar="DIR", help="where to (here)")
    command = group.add(
        "verify", "verify", "are the files that jobs kept still what they wrote", module="verify"
    )
    command.add_argument("id", nargs="?", metavar="JOB")
    command.add_argument("--all", action="store_true", help="every job that has kept files")
    command = group.add("republish", "republish", "try now to publish what a job could not")
    add_id(command)
    command.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="a token of the Calls bot for its site, - for standard input; else the newest known one",
    )

    command = group.add("retranscribe", "retranscribe", "transcribe the audio a job kept again")
    add_id(command)
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


def add_data(group: Group) -> None:
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


def add_clients(group: Group) -> None:
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
