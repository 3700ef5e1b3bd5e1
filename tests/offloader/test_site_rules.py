"""Which sites a client may send jobs to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from offloader.backends.environment import job_environment
from offloader.backends.surroundings import Surroundings
from offloader.errors import InvalidJob
from offloader.job_wish import JobWish, check_wish
from offloader.settings import ConfigError, Settings, load_settings

CHAT = "https://chat.example.com"


def settings_of(tmp_path: Path, **environ: str) -> Settings:
    return load_settings(tmp_path / "none.toml", {"JOBS_APITYPE": "process", **environ})


def wish(site_url: Any, key: str = "site_url") -> JobWish:
    return JobWish("recording", "mattermost/calls-recorder:v0.8.13", 60, {key: site_url})


@pytest.mark.parametrize(
    ("site_url", "refused"),
    [
        ("https://chat.example.com", False),
        ("https://CHAT.example.com:443", False),
        ("https://chat.example.com:8443", True),
        ("http://chat.example.com", True),
        ("https://chat.example.com.evil.example", True),
        ("https://chat.example.com@evil.example", True),
        ("https://other.example.com", True),
        ("", True),
    ],
)
def test_with_a_list_only_its_sites_are_served(
    tmp_path: Path, site_url: str, refused: bool
) -> None:
    jobs = settings_of(tmp_path, JOBS_ALLOWEDSITEURLS=f'["{CHAT}/"]').jobs
    if not refused:
        check_wish(wish(site_url), settings=jobs)
        return
    with pytest.raises(InvalidJob, match=r"not among jobs\.allowed_site_urls"):
        check_wish(wish(site_url), settings=jobs)


@pytest.mark.parametrize("key", ["site_url", "SITE_URL", "Site_Url"])
def test_without_one_every_site_is_but_where_metadata_services_are(
    tmp_path: Path, key: str
) -> None:
    jobs = settings_of(tmp_path).jobs
    for fine in (CHAT, "http://127.0.0.1:8065", "http://10.1.2.3", "no URL at all"):
        check_wish(wish(fine, key), settings=jobs)
    with pytest.raises(InvalidJob, match=rf'"{key}" is .* link-local.*jobs.allowed_site_urls'):
        check_wish(wish("http://169.254.169.254/", key), settings=jobs)


def test_a_second_spelling_of_the_key_hides_nothing(tmp_path: Path) -> None:
    data = {"site_url": CHAT, "SITE_URL": "http://169.254.169.254"}
    wished = JobWish("recording", "mattermost/calls-recorder:v0.8.13", 60, data)
    with pytest.raises(InvalidJob, match="link-local"):
        check_wish(wished, settings=settings_of(tmp_path).jobs)


def test_a_site_that_the_admin_named_may_have_any_address_and_its_job_is_told(
    tmp_path: Path,
) -> None:
    for environ in (
        {"JOBS_ALLOWEDSITEURLS": '["http://169.254.1.1"]'},
        {"JOBS_SITEURLOVERRIDES": '{"http://169.254.1.1": "http://10.0.0.5"}'},
    ):
        jobs = settings_of(tmp_path, **environ).jobs
        check_wish(wish("http://169.254.1.1"), settings=jobs)
        variables = Surroundings(jobs.network).variables(
            {"SITE_URL": "http://169.254.1.1"}, ca_path=None
        )
        assert variables["SITE_URL_ALLOWED"] == "true"
        assert "SITE_URL_ALLOWED" not in Surroundings(jobs.network).variables(
            {"SITE_URL": CHAT}, ca_path=None
        )


def test_no_client_can_say_so_itself() -> None:
    environment = job_environment({"site_url": CHAT, "site_url_allowed": "true"})
    assert environment.dropped == ("SITE_URL_ALLOWED",)


def test_an_entry_that_is_no_site_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"jobs\.allowed_site_urls.*should be a site URL"):
        settings_of(tmp_path, JOBS_ALLOWEDSITEURLS='["chat.example.com"]')
