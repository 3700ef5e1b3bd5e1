"""Step `plugin`: which Calls plugin is there, and what is switched on in it (calls-plugin.md 5.7, 10)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx

from offloader.doctor.finding import Finding, failure, note, ok, skipped, warning
from offloader.doctor.network.way import PLUGIN_PATH, Way, json_object, reason_of, unreached
from offloader.doctor.step import Context, Step

OLDEST: Final = (0, 28, 0)
"""`call_state`, `caption` and `call_job_state` as jobs need them."""
TESTED: Final = (1, 12, 0)
OLDEST_RTCD: Final = (0, 17, 0)
TOKEN_CAUSE: Final = (
    "the site does not know it (any more); a bot's ends when the Calls plugin restarts"
)
_CONSOLE: Final = "System Console > Plugins > Calls"
_LICENCES: Final = ("enterprise", "advanced", "E20")
"""E20 is the name that Enterprise had."""


async def look(context: Context) -> Sequence[Finding]:
    """Its version, which everybody may know, and with a token its switches."""
    way = Way.of(context)
    if (missing := await unreached(way)) is not None or way is None:
        return [missing] if missing else []
    try:
        async with way.http(token=context.token) as http:
            found = _version(way, await http.get(f"{PLUGIN_PATH}/version"))
            if found[0].code == "plugin_missing":
                return found
            if not context.token:
                cause = "what is switched on is told to users only: --token-file"
                return [*found, skipped("config_needs_token", "plugin configuration", cause)]
            return [*found, *_config(await http.get(f"{PLUGIN_PATH}/config"))]
    except httpx.HTTPError as error:
        return [skipped("plugin_no_answer", "Calls plugin", f"{reason_of(error)}: see http")]


def _version(way: Way, response: httpx.Response) -> list[Finding]:
    told = json_object(response)
    text = str(told.get("version", ""))
    number = version_number(text)
    if response.status_code != httpx.codes.OK or number is None:
        return [
            failure(
                "plugin_missing",
                "Calls plugin",
                f"HTTP {response.status_code} for {PLUGIN_PATH}/version",
                cause="com.mattermost.calls is not installed or not enabled, or a proxy keeps /plugins away",
                fix=(
                    f"{_CONSOLE} > Enable Plugin: true",
                    "mmctl plugin enable com.mattermost.calls",
                    f"curl -s {way.url}{PLUGIN_PATH}/version",
                ),
                data={"status": response.status_code},
            )
        ]
    data = {name: str(value) for name, value in told.items()}
    if number < OLDEST:
        return [
            failure(
                "plugin_too_old",
                "Calls plugin",
                text,
                cause=f"jobs need what came with {_dotted(OLDEST)}",
                fix=(f"update the Calls plugin to {_dotted(TESTED)} or newer",),
                data=data,
            )
        ]
    make = ok if number >= TESTED else note
    more = {} if number >= TESTED else {"cause": f"older than {_dotted(TESTED)}, which is tested"}
    return [make("plugin_there", "Calls plugin", text, data=data, **more), *_rtcd(told)]


def _rtcd(told: Mapping[str, Any]) -> list[Finding]:
    text = str(told.get("rtcd_version", ""))
    if not text:
        return [
            note("plugin_own_sfu", "SFU", "the plugin's own, or one whose version it does not tell")
        ]
    number = version_number(text)
    if number is not None and number < OLDEST_RTCD:
        return [
            failure(
                "rtcd_too_old",
                "rtcd",
                text,
                cause=f"the Calls plugin wants {_dotted(OLDEST_RTCD)} or newer",
                fix=("update rtcd",),
            )
        ]
    return [ok("plugin_rtcd", "rtcd", text)]


def _config(response: httpx.Response) -> list[Finding]:
    status = response.status_code
    if status == httpx.codes.UNAUTHORIZED:
        return [
            failure(
                "token_refused",
                "token",
                "HTTP 401",
                cause=TOKEN_CAUSE,
                fix=("Mattermost > Profile > Security > Personal Access Tokens: make a new one",),
            )
        ]
    if status == httpx.codes.TOO_MANY_REQUESTS:
        cause = "this user asks too often; jobs share the bot's allowance: use a person's token, or wait"
        return [skipped("config_rate_limited", "plugin configuration", cause)]
    config = json_object(response)
    if status != httpx.codes.OK or "EnableRecordings" not in config:
        return [skipped("config_unreadable", "plugin configuration", f"HTTP {status} for /config")]
    return [*_recordings(config), *_speech(config), *_limits(config), *_calls(config)]


def _recordings(config: Mapping[str, Any]) -> list[Finding]:
    found = []
    licence = str(config.get("sku_short_name", ""))
    if licence not in _LICENCES:
        found.append(
            warning(
                "plugin_licence",
                "Mattermost licence",
                licence or "none",
                cause="the plugin uses a job service with an Enterprise licence only, or in developer mode",
                fix=(
                    "System Console > Edition and License",
                    "ServiceSettings.EnableDeveloper and EnableTesting: true   # a server for tests",
                ),
            )
        )
    if not config.get("EnableRecordings"):
        found.append(
            failure(
                "recordings_off",
                "EnableRecordings",
                "false",
                cause="nobody can start a recording, and the plugin never calls the job service",
                fix=(f"{_CONSOLE} > Enable call recordings: true; then restart the plugin",),
                plugin={"EnableRecordings": True},
            )
        )
    return found or [ok("recordings_on", "EnableRecordings", "true")]


def _speech(config: Mapping[str, Any]) -> list[Finding]:
    found = []
    for key, on, off, console in (
        (
            *("EnableTranscriptions", "transcriptions_on", "transcriptions_off"),
            "Enable call transcriptions",
        ),
        ("EnableLiveCaptions", "captions_on", "captions_off", "Enable live captions"),
    ):
        if config.get(key):
            found.append(ok(on, key, "true"))
            continue
        cause = f"{_CONSOLE} > {console} would switch it on, and needs a restart of the plugin"
        found.append(note(off, key, "false", cause=cause))
    return found


def _limits(config: Mapping[str, Any]) -> list[Finding]:
    found = []
    minutes = config.get("MaxRecordingDuration")
    if isinstance(minutes, int):
        found.append(
            ok("max_recording", "MaxRecordingDuration", f"{minutes} min", data={"minutes": minutes})
        )
    people = config.get("MaxCallParticipants")
    if isinstance(people, int) and 0 < people < 4:
        found.append(
            warning(
                "participants_limit",
                "MaxCallParticipants",
                str(people),
                cause="recorder and transcriber count as participants: two people alone fill the call",
                fix=(f"{_CONSOLE} > Max call participants: 0 (no limit), or two more than people",),
                plugin={"MaxCallParticipants": 0},
            )
        )
    return found


def _calls(config: Mapping[str, Any]) -> list[Finding]:
    found = []
    if not config.get("AllowScreenSharing", True):
        cause = "no screen will be in a recording: that is the plugin's setting"
        found.append(note("screen_sharing_off", "AllowScreenSharing", "false", cause=cause))
    if config.get("EnableSimulcast"):
        cause = "shared screens come in the layer that this host's network carries"
        found.append(note("simulcast_on", "EnableSimulcast", "true", cause=cause))
    return found


def version_number(text: str) -> tuple[int, int, int] | None:
    """Of `1.12.2`, `v1.2.6-dev3`; None for anything else, such as `dev`."""
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def _dotted(number: tuple[int, int, int]) -> str:
    return ".".join(map(str, number))


PLUGIN: Final = Step("plugin", "Calls plugin", look, timeout_s=30)
