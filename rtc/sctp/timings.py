"""All times and limits an association keeps to; times in nanoseconds of the monotonic clock."""

from __future__ import annotations

from typing import Final

FAR_FUTURE_NS: Final = 1 << 62
"""Nothing is due."""

_MS: Final = 1_000_000

INITIAL_RTO_NS: Final = 1000 * _MS
"""Before the first measurement, also of the handshake (RFC 9260 section 16)."""
MIN_RTO_NS: Final = 400 * _MS
"""Twice a peer's delayed SACK, as browsers have it; the RFC's 1 s makes people wait for a lost lock."""
MAX_RTO_NS: Final = 4000 * _MS
"""ICE gives up after 30 s without consent; until then a path that comes back is to be used soon."""
MAX_INIT_TRANSMISSIONS: Final = 9
"""Of INIT and COOKIE ECHO (Max.Init.Retransmits 8): the other side may have no data channels at all."""
SACK_DELAY_NS: Final = 200 * _MS
"""How long a SACK waits for data to travel with (RFC 9260 section 6.2)."""
COOKIE_LIFETIME_NS: Final = 60_000 * _MS

MAX_PACKET_BYTES: Final = 1160
"""With DTLS's 37 bytes (AES-GCM) a datagram is below 1200 bytes, as all others of ours are."""
MAX_MESSAGE_BYTES: Final = 65536 * 4
"""Both ways; descriptions say so in `a=max-message-size`."""
RECEIVE_WINDOW_BYTES: Final = 512 * 1024
"""Messages are handed over at once, so this holds only what waits for missing packets."""
SEND_BUFFER_BYTES: Final = 1024 * 1024
"""Queued and not yet acknowledged; a peer that takes nothing more gets nothing more."""
HELD_ITEM_BYTES: Final = 128
"""What each held chunk or message is counted as, over its payload: small ones must not be free."""
MAX_STREAMS: Final = 1024
"""Announced for both directions."""
