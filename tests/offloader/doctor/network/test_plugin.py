"""Verdicts of the step `plugin`, each provoked by what a site tells."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from offloader.doctor.network.plugin import PLUGIN

Look = Callable[..., Awaitable[Any]]
BASE = "/plugins/com.mattermost.calls"
TOKEN = "a-token-of-this-test"


async def test_a_site_that_has_all_is_good(look: Look, site: Any) -> None:
    found = await look(PLUGIN, site_url=site.url, token=TOKEN)
    assert set(found.verdicts.values()) == {"ok"}
    assert {"recordings_on", "transcriptions_on", "captions_on"} <= set(found.codes)
    assert found["plugin_there"].value == "1.12.2"
    assert found["max_recording"].data == {"minutes": 60}


async def test_without_a_token_only_versions_are_told(look: Look, site: Any) -> None:
    found = await look(PLUGIN, site_url=site.url)
    assert found.verdicts == {
        "plugin_there": "ok",
        "plugin_rtcd": "ok",
        "config_needs_token": "skipped",
    }


async def test_a_missing_plugin_is_a_failure(look: Look, site: Any) -> None:
    del site.answers[f"{BASE}/version"]
    found = await look(PLUGIN, site_url=site.url, token=TOKEN)
    assert found.verdicts == {"plugin_missing": "failure"}
    assert "HTTP 404" in found["plugin_missing"].value


@pytest.mark.parametrize(
    ("told", "code", "verdict"),
    [
        ({"version": "0.27.0"}, "plugin_too_old", "failure"),
        ({"version": "1.11.3"}, "plugin_there", "note"),
        ({"version": "1.12.2", "rtcd_version": "v0.16.0"}, "rtcd_too_old", "failure"),
        ({"version": "1.12.2", "rtcd_version": "dev"}, "plugin_rtcd", "ok"),
        ({"version": "1.12.2"}, "plugin_own_sfu", "note"),
    ],
)
async def test_versions_are_judged(
    look: Look, site: Any, told: dict[str, str], code: str, verdict: str
) -> None:
    site.answers[f"{BASE}/version"] = (200, told)
    assert (await look(PLUGIN, site_url=site.url)).verdicts[code] == verdict


@pytest.mark.parametrize(
    ("changes", "code", "verdict"),
    [
        ({"EnableRecordings": False}, "recordings_off", "failure"),
        ({"EnableTranscriptions": False}, "transcriptions_off", "note"),
        ({"EnableLiveCaptions": False}, "captions_off", "note"),
        ({"sku_short_name": "professional"}, "plugin_licence", "warning"),
        ({"MaxCallParticipants": 3}, "participants_limit", "warning"),
        ({"AllowScreenSharing": False}, "screen_sharing_off", "note"),
        ({"EnableSimulcast": True}, "simulcast_on", "note"),
    ],
)
async def test_switches_are_judged(
    look: Look, site: Any, client_config: Any, changes: dict[str, Any], code: str, verdict: str
) -> None:
    site.answers[f"{BASE}/config"] = (200, client_config(**changes))
    found = await look(PLUGIN, site_url=site.url, token=TOKEN)
    assert found.verdicts[code] == verdict


async def test_what_the_plugin_should_be_set_to_is_told_to_programs(
    look: Look, site: Any, client_config: Any
) -> None:
    site.answers[f"{BASE}/config"] = (200, client_config(EnableRecordings=False))
    found = await look(PLUGIN, site_url=site.url, token=TOKEN)
    assert found["recordings_off"].plugin == {"EnableRecordings": True}


@pytest.mark.parametrize(
    ("answer", "code", "verdict"),
    [
        ((401, {}), "token_refused", "failure"),
        ((429, {"message": "too many requests"}), "config_rate_limited", "skipped"),
        ((200, []), "config_unreadable", "skipped"),
        ((500, {}), "config_unreadable", "skipped"),
    ],
)
async def test_refused_questions_are_told(
    look: Look, site: Any, answer: Any, code: str, verdict: str
) -> None:
    site.answers[f"{BASE}/config"] = answer
    found = await look(PLUGIN, site_url=site.url, token=TOKEN)
    assert found.verdicts[code] == verdict
