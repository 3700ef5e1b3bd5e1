"""Step `job-service-url`: does the plugin know this service, and do its settings fit ours?"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from offloader.doctor.finding import Finding, failure, note, ok, skipped, warning
from offloader.doctor.network.admin_view import AdminView, admin_view, without_password
from offloader.doctor.network.way import Way, json_object, reason_of, trusting, unreached
from offloader.doctor.step import Context, Step, aside
from offloader.setting_values import split_address

_VARIABLE: Final = "MM_CALLS_JOB_SERVICE_URL"
_RESTART: Final = (
    "mmctl plugin disable com.mattermost.calls && mmctl plugin enable com.mattermost.calls"
)
"""The plugin looks for its job service when it starts, and never again (calls-plugin.md 6.1)."""
_ANSWER_S: Final = 5.0


async def look(context: Context) -> Sequence[Finding]:
    """By an admin's token, or by the plugin's own variable where this runs beside it."""
    way = Way.of(context)
    if (missing := await unreached(way)) is not None or way is None:
        return [missing] if missing else []
    try:
        view = await admin_view(way, context.token)
    except httpx.HTTPError as error:
        return [skipped("admin_no_answer", "plugin settings", f"{reason_of(error)}: see http")]
    url = context.environ.get(_VARIABLE, "") or (view.text("JobServiceURL") if view else "")
    if view is None and not url:
        cause = "only a system admin's token shows it: --token-file"
        return [skipped("job_service_url_unknown", "JobServiceURL", cause)]
    found = [await _service(context, url.rstrip("/"))]
    if view is not None:
        found += _site_url(way, view)
        found += await aside(lambda: _models(context, view))
    return found


async def _service(context: Context, url: str) -> Finding:
    wanted = _own_url(context)
    if not url:
        return failure(
            "job_service_url_empty",
            "JobServiceURL",
            "not set",
            cause="the plugin has no job service: nobody can start a recording",
            fix=(f"System Console > Plugins > Calls > Job service URL: {wanted}", _RESTART),
            plugin={"JobServiceURL": wanted},
        )
    parts = urlsplit(url)
    plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    try:
        ca = await aside(lambda: trusting(context.ca_file))
        async with httpx.AsyncClient(timeout=_ANSWER_S, trust_env=False, verify=ca) as http:
            told = json_object(await http.get(f"{plain}/version"))
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        reason = reason_of(error)
        return failure(
            "job_service_unreachable",
            "JobServiceURL",
            f"{without_password(url)}: {reason}",
            cause="nobody answers there as seen from this host; the plugin needs it when it starts",
            fix=(f"curl -s {plain}/version", f"Job service URL: {wanted}", _RESTART),
            plugin={"JobServiceURL": wanted},
        )
    value = f"{without_password(url)}: {told.get('buildVersion', 'no version')}"
    if not str(told.get("goVersion", "")).startswith("python"):
        return warning(
            "job_service_is_another",
            "JobServiceURL",
            value,
            cause="another job service answers there: the plugin does not use this one",
            fix=(f"System Console > Plugins > Calls > Job service URL: {wanted}", _RESTART),
            plugin={"JobServiceURL": wanted},
        )
    if parts.hostname in ("localhost", "127.0.0.1", "::1"):
        cause = "right only where Mattermost runs on this very host"
        return note("job_service_on_loopback", "JobServiceURL", value, cause=cause)
    return ok("job_service_known", "JobServiceURL", value)


def _own_url(context: Context) -> str:
    """What the plugin should be told, as far as it can be guessed here."""
    api = context.settings.api
    host, port = split_address(api.listen_address)
    if host in ("", "0.0.0.0", "::"):  # nosec B104  # compared, not bound
        host = socket.gethostname()
    return (
        f"{'https' if api.tls.enable else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
    )


def _site_url(way: Way, view: AdminView) -> list[Finding]:
    theirs = view.site_url.rstrip("/")
    if theirs == way.given_url:
        return [ok("site_url_agrees", "SiteURL", theirs)]
    return [
        warning(
            "site_url_differs",
            "SiteURL",
            theirs or "not set",
            cause=f"jobs are sent to this URL, and {way.given_url} was examined",
            fix=(
                f"offloader doctor --site-url {theirs}"
                if theirs
                else f"System Console > Environment > Web Server > Site URL: {way.given_url}",
                f'jobs.site_url_overrides = {{"{theirs or way.given_url}" = "{way.given_url}"}}',
            ),
        )
    ]


def _models(context: Context, view: AdminView) -> list[Finding]:
    """The sizes that the plugin will ask for, where jobs are processes of this host. Blocks."""
    jobs = context.settings.jobs
    if jobs.api_type != "process" or not jobs.process.models_dir:
        return []
    found = []
    for key in ("TranscriberModelSize", "LiveCaptionsModelSize"):
        size = view.text(key)
        directory = Path(jobs.process.models_dir)
        if not size or (directory / size).is_dir():
            continue
        there = sorted(path.name for path in directory.glob("*") if path.is_dir())
        found.append(
            failure(
                "plugin_model_missing",
                key,
                size,
                cause=f"{directory} has no folder {size}; there are: {', '.join(there) or 'none'}",
                fix=(
                    f"put the model into {directory / size}",
                    *(f"System Console > Plugins > Calls > {key}: {name}" for name in there[:1]),
                ),
            )
        )
    return found


JOB_SERVICE: Final = Step("job-service-url", "Job service, as the plugin knows it", look)
