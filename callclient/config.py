"""What a call client is told before it joins."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from callclient.ice_policy import IceTransportPolicy
from callclient.receive.latency import CAPTIONS, LatencyBudget


@dataclass(frozen=True, slots=True)
class CallClientConfig:
    """Whom to call and as whom."""

    site_url: str
    """`http(s)://host[:port]`, no trailing slash."""
    auth_token: str = field(repr=False)
    channel_id: str
    """What jobs get as CALL_ID."""
    job_id: str = ""
    """The plugin's job id; needed by the bot user, empty for people."""
    ca_file: Path | None = None
    """Extra CA bundle for https, wss and TURN over TLS."""
    site_is_allowed: bool = False
    """The admin has named the site, so that it may have any address."""
    av1_support: bool = False
    """True switches VP8 off towards us, where the publisher can AV1 (trap 24)."""
    dc_signaling: bool = True
    """Get the server's offers over the data channel: tracks that begin while the WebSocket is lost are heard
    too then, and no limit of the plugin applies. An SFU too old to know of it uses the WebSocket."""
    latency: LatencyBudget = CAPTIONS
    """How long receiving may wait for missing packets."""
    join_timeout_s: float = 20.0
    """From opening the WebSocket to the answer to the join; and again from there to connected media."""
    ice_transport: IceTransportPolicy = "all"
    """Which ways media may take: see callclient.ice_policy."""
    reconnect_limit_s: float = 30.0
    """How long to try to come back. The server ends the media 10 s after it has noticed the loss
    (calls-plugin.md 1.5), and that ends the stay too; but it may notice much later than we do."""
