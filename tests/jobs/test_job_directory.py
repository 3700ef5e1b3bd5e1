"""What a dead job leaves is private, complete, and enough to go on."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from jobs import job_directory
from jobs.job_directory import create, load, remove, safe_name, write_private
from jobs.settings import JobSettings, SettingsError

ID = "abcdefghijklmnopqrstuvwxy"


@pytest.fixture
def settings(tmp_path: Path) -> JobSettings:
    return JobSettings("http://h", ID + "c", ID + "p", ID + "r", ID + "s", tmp_path)


def read(settings: JobSettings, **environ: str) -> tuple[JobSettings, str]:
    return load(JobSettings, settings.directory, environ, overrides={"SITE_URL": "site_url"})


def test_the_description_is_private_and_without_the_token(settings: JobSettings) -> None:
    create(settings, base_name="Call_X")
    path = settings.directory / "job.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert settings.directory.stat().st_mode & 0o777 == 0o700
    assert settings.auth_token not in path.read_text()


def test_it_comes_back_with_a_new_token_and_another_site(settings: JobSettings) -> None:
    create(settings, base_name="Call_X")
    back, base_name = read(settings, AUTH_TOKEN="new", SITE_URL="https://other/")
    assert base_name == "Call_X"
    assert (back.auth_token, back.site_url) == ("new", "https://other")
    assert back.directory == settings.directory
    assert (back.call_id, back.post_id, back.job_id) == (
        settings.call_id,
        settings.post_id,
        settings.job_id,
    )


@pytest.mark.parametrize("text", [None, "", "[]", "{}"])
def test_no_description_is_an_error_that_names_the_file(
    settings: JobSettings, text: str | None
) -> None:
    settings.directory.mkdir()
    if text is not None:
        (settings.directory / "job.json").write_text(text)
    with pytest.raises(SettingsError, match=r"job\.json"):
        read(settings, AUTH_TOKEN="new")


def test_a_directory_under_another_name_is_refused(settings: JobSettings) -> None:
    create(settings, base_name="Call_X")
    moved = settings.directory.rename(settings.directory.with_name("moved"))
    with pytest.raises(SettingsError, match="should be named after its job"):
        load(JobSettings, moved, {"AUTH_TOKEN": "new"}, overrides={})


def test_removing_what_is_gone_is_no_error(tmp_path: Path) -> None:
    remove(tmp_path / "gone")


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("Call A/B", "Call_A_B"),
        ('a\\b:c*d?e"f<g>h|i\nj', "a_b_c_d_e_f_g_h_i_j"),
        ("ok-1.x", "ok-1.x"),
    ],
)
def test_names_of_files_are_safe(name: str, safe: str) -> None:
    assert safe_name(name) == safe


def test_a_failed_write_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_private(path, "old")
    (tmp_path / "x.json.tmp").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        write_private(path, "new")
    assert path.read_text() == "old"


def test_on_a_full_disk_the_reserve_is_for_what_has_to_be_written(
    settings: JobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(settings, base_name="Call_X", reserve_bytes=1 << 20)
    reserve = settings.directory / "reserve"
    assert reserve.stat().st_blocks * 512 >= 1 << 20
    write = job_directory._write_private

    def full(path: Path, text: str) -> None:
        if reserve.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, text)

    monkeypatch.setattr(job_directory, "_write_private", full)
    with pytest.raises(OSError, match="No space left"):
        write_private(settings.directory / "names", "x", may_spend_reserve=False)
    write_private(settings.directory / "text", "x")
    assert (settings.directory / "text").read_text() == "x"
    assert not reserve.exists()
