"""Step `config`: what is wrong, without effect, unsafe or regretted later is told, with the way out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from offloader.doctor.configuration import look
from offloader.doctor.finding import Finding, Verdict
from offloader.doctor.step import Context
from offloader.settings import read_settings

Examined = Callable[..., Context]
One = Callable[[Sequence[Finding], str], Finding]

KEY = "k" * 32


async def test_a_good_file_is_ok(examined: Examined) -> None:
    found = await look(examined('[api]\nhttp.listen_address = "127.0.0.1:4545"\n'))
    assert {each.verdict for each in found} == {Verdict.OK}
    assert [each.code for each in found] == ["config_file", "config_good"]


async def test_no_file_is_a_note(examined: Examined, one: One) -> None:
    found = one(await look(examined()), "config_no_file")
    assert found.verdict is Verdict.NOTE
    assert "config.toml" in found.value


async def test_every_wrong_value_is_a_failure_and_weak_choices_are_left_alone(
    examined: Examined, codes: Callable[..., list[str]]
) -> None:
    found = await look(
        examined("[jobs]\nmax_concurrent_jobs = -1\nstop_grace_s = 1\npost_call_slots = -2\n")
    )

    assert codes(found)[1:] == [
        "config_wrong_value",
        "config_wrong_value",
        "config_weak_skipped",
    ]
    assert {f.what for f in found[1:3]} == {"jobs.max_concurrent_jobs", "jobs.post_call_slots"}
    assert all(f.cause and f.fix for f in found[1:3])
    told = {f.what: f.value.rpartition(": ")[2] for f in found[1:3]}
    assert told == {"jobs.max_concurrent_jobs": "-1", "jobs.post_call_slots": "-2"}


@pytest.mark.parametrize("text", ["[jobs", "\0"])
async def test_a_file_that_is_no_toml_is_a_failure(text: str, examined: Examined, one: One) -> None:
    assert "not a TOML file" in one(await look(examined(text)), "config_wrong_value").cause


async def test_a_certificate_that_cannot_be_used_is_a_failure(
    examined: Examined, one: One, tmp_path: Path
) -> None:
    text = f'[jobs]\nca_cert_file = "{tmp_path / "gone.pem"}"\n'
    assert one(await look(examined(text)), "config_wrong_value").what == "jobs.ca_cert_file"


async def test_an_unknown_key_is_a_warning_by_name(examined: Examined, one: One) -> None:
    found = one(await look(examined("[jobs]\nmax_concurent_jobs = 3\n")), "config_unknown_key")
    assert (found.verdict, found.what) == (Verdict.WARNING, "jobs.max_concurent_jobs")


@pytest.mark.parametrize(
    "text",
    [
        f'[api.security]\nadmin_secret_key = "{KEY}"\n',
        f'[store]\ndata_source = "postgresql://me:{KEY}@db/calls"\n',
    ],
)
async def test_a_secret_that_everybody_can_read_is_a_warning(
    text: str, examined: Examined, one: One
) -> None:
    context = from_file(examined(text))
    context.config_path.chmod(0o644)

    found = one(await look(context), "config_secret_readable")

    assert found.fix[0] == f"chmod 640 {context.config_path}"
    assert KEY not in str(found.document())


async def test_a_url_without_a_password_is_no_secret(
    examined: Examined, codes: Callable[..., list[str]]
) -> None:
    context = examined('[jobs.celery]\nbroker_url = "redis://127.0.0.1:6379/0"\n')
    context.config_path.chmod(0o644)
    assert "config_secret_readable" not in codes(await look(context))


def from_file(context: Context) -> Context:
    """The same, with nothing but the file."""
    return replace(context, reading=read_settings(context.config_path, {}))


@pytest.mark.parametrize(
    ("environ", "code", "verdict"),
    [
        (
            {"API_SECURITY_ENABLEADMIN": "true", "API_SECURITY_ADMINSECRETKEY": "short"},
            "config_admin_key_weak",
            Verdict.WARNING,
        ),
        (
            {"API_SECURITY_ENABLEADMIN": "true", "API_SECURITY_ADMINSECRETKEY": KEY},
            "config_admin_without_tls",
            Verdict.WARNING,
        ),
        ({"API_SECURITY_ALLOWSELFREGISTRATION": "true"}, "config_self_registration", Verdict.NOTE),
        ({"DEV_MODE": "true"}, "config_checks_off", Verdict.WARNING),
        ({"JOBS_STOPGRACES": "20"}, "config_grace_short", Verdict.WARNING),
        ({"JOBS_MINFREEDISK": "0"}, "config_disk_not_watched", Verdict.WARNING),
        ({"JOBS_FAILEDJOBSRETENTIONTIME": "0"}, "config_kept_for_ever", Verdict.NOTE),
        ({"JOBS_APITYPE": "celery"}, "config_warning", Verdict.WARNING),
    ],
)
async def test_weak_choices_are_told(
    environ: Mapping[str, Any], code: str, verdict: Verdict, examined: Examined, one: One
) -> None:
    found = one(await look(examined("", **environ)), code)
    assert found.verdict is verdict
    assert found.cause or code == "config_warning"
    assert not any(word in str(found.document()) for word in (KEY, "'short'"))


@pytest.mark.parametrize("address", ["127.0.0.1:4545", "[::1]:4545", "localhost:4545"])
async def test_what_only_this_host_reaches_is_not_exposed(
    address: str, examined: Examined, codes: Callable[..., list[str]]
) -> None:
    environ = {"API_HTTP_LISTENADDRESS": address, "API_SECURITY_ALLOWSELFREGISTRATION": "true"}
    assert "config_self_registration" not in codes(await look(examined("", **environ)))


async def test_variables_of_the_unit_that_this_shell_lacks_are_told_by_name_alone(
    examined: Examined, one: One, machine_root: Callable[..., Path]
) -> None:
    unit = "# a comment\nJOBS_APITYPE=docker\nOFFLOADER_SECRET_KEY=hidden-value\nEDITOR=vi\nJOBS_COPIESURL=\n"
    root = machine_root({"etc/default/calls-offloader": unit})

    found = one(await look(examined("", root=root)), "config_environment_elsewhere")

    assert found.value == "JOBS_COPIESURL, OFFLOADER_SECRET_KEY"
    assert "hidden-value" not in str(found.document())
    assert found.fix == (f"set -a; . {root}/etc/default/calls-offloader; set +a; offloader doctor",)


async def test_a_file_out_of_sight_is_a_failure_and_no_accident(
    open_dir: Path, as_nobody: Callable[[], AbstractContextManager[None]], one: One
) -> None:
    path = hidden(open_dir)
    with as_nobody():
        context = Context(path, read_settings(path, {}), {})
        found = one(await look(context), "config_wrong_value")
    assert found.cause == "cannot be read: Permission denied"


def hidden(directory: Path) -> Path:
    """A configuration in a directory that nobody else may look into."""
    (directory / "closed").mkdir(mode=0o700)
    path = directory / "closed" / "config.toml"
    path.write_text("")
    return path
