"""What the plugin counts, under its names."""

from __future__ import annotations

import pytest

from testbed.plugin.metrics import PATH

pytestmark = pytest.mark.looptime


async def lines_of(standin) -> set[str]:
    answer = await standin.request("GET", PATH, who=None)
    assert answer.status_code == 200
    return set(answer.text.splitlines())


async def test_sessions_actions_and_what_the_bot_tells_of_captions_are_counted(standin) -> None:
    prefix = "mattermost_plugin_calls"
    assert f"{prefix}_jobs_live_captions_window_dropped_total 0.0" in await lines_of(standin)
    alice = await standin.joined("alice")
    await standin.record()
    bot = await standin.joined("calls", await standin.job_id("transcribing"))
    dropped = {"metric_name": "live_captions_window_dropped"}
    await bot.act("metric", dropped)
    await alice.act("metric", dropped)
    await alice.act("made_up", {})
    spoken = {"session_id": alice.connection_id, "text": "x", "new_audio_len_ms": 1200}
    await bot.act("caption", spoken)
    lines = await lines_of(standin)
    assert {
        f'{prefix}_websocket_connections_total{{channelID="{standin.channel_id}"}} 2.0',
        f'{prefix}_websocket_events_total{{direction="in",type="join"}} 2.0',
        f'{prefix}_websocket_events_total{{direction="in",type="metric"}} 2.0',
        f"{prefix}_jobs_live_captions_window_dropped_total 1.0",
        f"{prefix}_jobs_live_captions_new_audio_len_ms_sum 1200.0",
    } <= lines
    assert not any("made_up" in line for line in lines)
