"""`GET /plugins/com.mattermost.calls/metrics`: what the plugin counts of calls and captions.

The names are the plugin's (namespace `mattermost_plugin_calls`, rtcd.md 1.6). Its media metrics are not here:
with an SFU outside they are the SFU's.
"""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from testbed.plugin.calls import Calls

PATH: Final = "/plugins/com.mattermost.calls/metrics"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_AUDIO_LENGTH_MS: Final = (250, 500, 1000, 2000, 3000, 4000, 5000, 8000, 10_000)
_ACTIONS: Final = frozenset(
    {
        *("join", "reconnect", "leave", "call_state", "sdp", "ice", "mute", "unmute", "react"),
        *("screen_on", "screen_off", "video_on", "video_off", "raise_hand", "unraise_hand"),
        *("caption", "metric"),
    }
)
_OF_CAPTIONS: Final = {
    "live_captions_window_dropped": "Windows of speech that were dropped.",
    "live_captions_transcriber_buf_full": "Times the transcriber's buffer was full.",
    "live_captions_pktPayloadCh_buf_full": "Times the packets' buffer was full.",
}
"""By the names of the `metric` action (section 2)."""


class PluginMetrics:
    """Counts what the stand-in is told and tells."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._sessions = Gauge(
            "mattermost_plugin_calls_websocket_connections_total",
            "Sessions in the call.",
            ("channelID",),
            registry=self._registry,
        )
        self._events = Counter(
            "mattermost_plugin_calls_websocket_events",
            "Events of calls.",
            ("direction", "type"),
            registry=self._registry,
        )
        self._captions = {
            name: Counter(f"mattermost_plugin_calls_jobs_{name}", text, registry=self._registry)
            for name, text in _OF_CAPTIONS.items()
        }
        self._audio = Histogram(
            "mattermost_plugin_calls_jobs_live_captions_new_audio_len_ms",
            "Speech in a caption, ms.",
            buckets=_AUDIO_LENGTH_MS,
            registry=self._registry,
        )

    def came(self, action: str) -> None:
        """An action of a client; those that the plugin does not know count for nothing."""
        if action in _ACTIONS:
            self._events.labels("in", action).inc()

    def reported(self, name: str) -> None:
        """A `metric` action of the bot; unknown names are ignored, as the plugin does."""
        if name in self._captions:
            self._captions[name].inc()

    def captioned(self, new_audio_len_ms: float) -> None:
        """A caption was sent."""
        self._audio.observe(new_audio_len_ms)

    def render(self, channel_id: str, sessions: int) -> bytes:
        """As Prometheus' text; `sessions` are in the call of the channel now."""
        self._sessions.labels(channel_id).set(sessions)
        return generate_latest(self._registry)


def metrics_route(metrics: PluginMetrics, calls: Calls) -> APIRouter:
    """The router."""
    router = APIRouter()

    @router.get(PATH)
    async def prometheus() -> Response:
        sessions = len(calls.current.sessions) if calls.current is not None else 0
        return Response(metrics.render(calls.world.channel_id, sessions), media_type=CONTENT_TYPE)

    return router
