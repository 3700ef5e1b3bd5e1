"""Verdicts of the step `job-service-url`, with an admin's view of the server's settings."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from offloader.doctor.network.job_service import JOB_SERVICE

Look = Callable[..., Awaitable[Any]]
TOKEN = "a-token-of-this-test"
CALLS = "com.mattermost.calls"


def settings(site: Any, **calls: Any) -> tuple[int, dict[str, Any]]:
    """What `GET /api/v4/config` answers to an admin."""
    return 200, {
        "ServiceSettings": {"SiteURL": site.url},
        "FileSettings": {"MaxFileSize": 104857600},
        "PluginSettings": {"Plugins": {CALLS: {name.lower(): v for name, v in calls.items()}}},
    }


async def test_only_an_admin_may_know(look: Look, site: Any) -> None:
    found = await look(JOB_SERVICE, site_url=site.url, token=TOKEN)
    assert found.verdicts == {"job_service_url_unknown": "skipped"}


async def test_a_plugin_without_a_job_service_is_a_failure(look: Look, site: Any) -> None:
    site.answers["/api/v4/config"] = settings(site)
    found = await look(
        JOB_SERVICE, site_url=site.url, token=TOKEN, API_HTTP_LISTENADDRESS="10.1.2.3:4545"
    )
    assert found.verdicts == {"job_service_url_empty": "failure", "site_url_agrees": "ok"}
    assert found["job_service_url_empty"].plugin == {"JobServiceURL": "http://10.1.2.3:4545"}


async def test_a_service_that_is_not_there_is_a_failure_without_its_password(
    look: Look, site: Any, closed_port: int
) -> None:
    url = f"http://client:hidden-password@127.0.0.1:{closed_port}"
    site.answers["/api/v4/config"] = settings(site, JobServiceURL=url)
    found = await look(JOB_SERVICE, site_url=site.url, token=TOKEN)
    assert found.verdicts["job_service_unreachable"] == "failure"
    assert "hidden-password" not in str(found.all)


@pytest.mark.parametrize(
    ("told", "code", "verdict"),
    [
        ({"buildVersion": "v0.9.5", "goVersion": "go1.22"}, "job_service_is_another", "warning"),
        ({"buildVersion": "v1.0.0", "goVersion": "python3.11"}, "job_service_on_loopback", "note"),
    ],
)
async def test_who_answers_there_is_told(
    look: Look, site: Any, told: dict[str, str], code: str, verdict: str
) -> None:
    site.answers["/version"] = (200, told)
    # By the plugin's own variable, as it is where this runs beside it.
    found = await look(JOB_SERVICE, site_url=site.url, MM_CALLS_JOB_SERVICE_URL=f"{site.url}/")
    assert found.verdicts == {code: verdict}


async def test_a_service_at_another_place_is_known(look: Look, site: Any) -> None:
    site.answers["/version"] = (200, {"buildVersion": "v1.0.0", "goVersion": "python3.11"})
    # Loopback by a name that does not say so.
    url = site.url.replace("127.0.0.1", "127.1")
    found = await look(JOB_SERVICE, site_url=site.url, MM_CALLS_JOB_SERVICE_URL=url)
    assert found.verdicts == {"job_service_known": "ok"}


async def test_another_site_url_is_a_warning(look: Look, site: Any) -> None:
    answer = settings(site, JobServiceURL="")
    answer[1]["ServiceSettings"]["SiteURL"] = "https://chat.example.com"
    site.answers["/api/v4/config"] = answer
    found = await look(JOB_SERVICE, site_url=site.url, token=TOKEN)
    assert found.verdicts["site_url_differs"] == "warning"


async def test_a_model_that_the_plugin_wants_and_nobody_has_is_a_failure(
    look: Look, site: Any, tmp_path: Path
) -> None:
    (tmp_path / "models" / "tiny").mkdir(parents=True)
    site.answers["/api/v4/config"] = settings(
        site, TranscriberModelSize="base", LiveCaptionsModelSize="tiny"
    )
    found = await look(
        JOB_SERVICE,
        site_url=site.url,
        token=TOKEN,
        JOBS_PROCESS_MODELSDIR=str(tmp_path / "models"),
    )
    missing = [finding for finding in found.all if finding.code == "plugin_model_missing"]
    assert [(finding.what, finding.value) for finding in missing] == [
        ("TranscriberModelSize", "base")
    ]
