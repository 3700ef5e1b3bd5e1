"""Steps `http` and `site-clock`: does Mattermost answer at this very URL, and what time is it there?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urljoin, urlsplit

import httpx

from offloader.doctor.finding import Finding, failure, ok, skipped, warning
from offloader.doctor.network.way import Way, json_object, reason_of, unreached
from offloader.doctor.step import Context, Step

PING: Final = "/api/v4/system/ping"
WARN_S: Final = 1.0
FAIL_S: Final = 5.0
_LOOKS: Final = 4
_BETWEEN_S: Final = 0.23
"""A Date header has whole seconds; looks at different moments of a second tell more."""


async def ask(context: Context) -> Sequence[Finding]:
    """What `GET /api/v4/system/ping` answers; it needs no token."""
    way = Way.of(context)
    if (missing := await unreached(way)) is not None or way is None:
        return [missing] if missing else []
    began_s = time.monotonic()
    try:
        async with way.http() as http:
            response = await http.get(PING)
    except httpx.HTTPError as error:
        return [
            failure(
                "http_no_answer",
                way.url,
                reason_of(error),
                cause="the connection stands, and HTTP is not answered on it",
                fix=(f"curl -v {way.url}{PING}",),
            )
        ]
    return [_answer(way, response, (time.monotonic() - began_s) * 1000)]


def _answer(way: Way, response: httpx.Response, took_ms: float) -> Finding:
    status = response.status_code
    value = f"HTTP {status} in {took_ms:.0f} ms"
    if response.is_redirect:
        return _redirect(way, response)
    if status in (502, 503, 504):
        return failure(
            "http_mattermost_down",
            way.url,
            value,
            cause="a proxy answers, and Mattermost behind it does not",
            fix=("systemctl status mattermost   # on its host",),
        )
    if status in (401, 403, 407):
        return failure(
            "http_refused",
            way.url,
            value,
            cause="something before Mattermost wants a login or refuses this host",
            fix=(f"let this host reach {way.url}/api/v4 and /plugins without another login",),
        )
    if status != httpx.codes.OK or json_object(response).get("status") != "OK":
        return warning(
            "http_no_mattermost",
            way.url,
            value,
            cause=f"{PING} is not answered as by Mattermost: is it its URL?",
            fix=(f"curl -s {way.url}{PING}   # should be JSON with status OK",),
        )
    return ok("http_answers", way.url, value, data={"took_ms": round(took_ms, 1)})


def _redirect(way: Way, response: httpx.Response) -> Finding:
    target = urlsplit(urljoin(f"{way.url}/", response.headers.get("Location", "")))
    origin = f"{target.scheme}://{target.netloc.rpartition('@')[2]}"
    elsewhere = origin != f"{way.scheme}://{urlsplit(way.url).netloc}"
    cause = (
        "jobs follow no redirect: their token would go to somebody else"
        if elsewhere
        else "jobs follow no redirect, and this one leads away from Mattermost's API"
    )
    fix = [f"let {PING} through to Mattermost without a redirect"]
    if elsewhere:
        fix = [
            f"offloader doctor --site-url {origin}",
            f"System Console > Environment > Web Server > Site URL: {origin}",
            f'jobs.site_url_overrides = {{"{way.given_url}" = "{origin}"}}',
        ]
    return failure(
        "http_redirects",
        way.url,
        f"HTTP {response.status_code} to {origin}{target.path}",
        cause=cause,
        fix=tuple(fix),
    )


async def compare_clocks(context: Context) -> Sequence[Finding]:
    """By the Date header of several answers."""
    way = Way.of(context)
    if (missing := await unreached(way)) is not None or way is None:
        return [missing] if missing else []
    least, most = float("-inf"), float("inf")
    try:
        async with way.http() as http:
            for number in range(1 if context.quick else _LOOKS):
                await asyncio.sleep(_BETWEEN_S if number else 0)
                sent_s = time.time()
                response = await http.get(PING)
                came_s = time.time()
                theirs_s = parsedate_to_datetime(response.headers["Date"]).timestamp()
                least = max(least, theirs_s - came_s)
                most = min(most, theirs_s + 1 - sent_s)
    except httpx.HTTPError as error:
        return [skipped("clock_no_answer", "clock", f"{reason_of(error)}: see http")]
    except (KeyError, ValueError):
        return [skipped("clock_not_told", "clock", "the answers have no usable Date header")]
    return [clock_finding((least + most) / 2, max((most - least) / 2, 0.0), "Date header")]


def clock_finding(offset_s: float, uncertainty_s: float, source: str) -> Finding:
    """`offset_s`: theirs minus ours, give or take `uncertainty_s`; judged by what it surely is."""
    surely_s = max(abs(offset_s) - uncertainty_s, 0.0)
    ahead = "ahead of" if offset_s > 0 else "behind"
    value = (
        f"theirs is {abs(offset_s):.2f} s {ahead} ours (± {uncertainty_s:.2f} s, by its {source})"
    )
    data = {"offset_s": round(offset_s, 3), "uncertainty_s": round(uncertainty_s, 3)}
    if surely_s <= WARN_S:
        return ok("clock_agrees", "clock of the site", value, data=data)
    make = failure if surely_s > FAIL_S else warning
    return make(
        "clock_far_off" if surely_s > FAIL_S else "clock_off",
        "clock of the site",
        value,
        cause="this host and Mattermost's disagree on the time: logs, captions and certificates do not fit",
        fix=("timedatectl set-ntp true   # on both hosts", "chronyc tracking"),
        data=data,
    )


HTTP: Final = Step("http", "Answers of the Mattermost server", ask, timeout_s=30)
CLOCK: Final = Step("site-clock", "Clock of the Mattermost server", compare_clocks, timeout_s=30)
