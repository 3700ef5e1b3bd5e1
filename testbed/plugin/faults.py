"""Faults that tests ask for; all off by default. Named after what a job would meet."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, fields
from typing import Any


@dataclass(slots=True)
class Faults:
    """Set by `POST /testbed/faults`."""

    refuse_join: str = ""
    """Refuse every join with this text."""
    damage_upload_parts: int = 0
    """This many upload parts are counted but their content is lost."""
    refuse_upload_parts: int = 0
    """This many upload parts are answered with 500."""
    limit_upload_parts: int = 0
    """This many upload parts are answered with 429 and `Retry-After: 1`."""
    too_large_upload_bytes: int = 0
    """Upload parts above this are refused with 413, as by a proxy; 0: no limit."""
    cut_upload_parts: int = 0
    """Of this many upload parts half is kept, then the connection breaks."""
    stall_upload_parts: int = 0
    """This many upload parts are not read and not answered, until the sender gives up."""
    lose_upload_answers: int = 0
    """This many upload parts are stored whole, but their answers get lost with the connection."""
    contradict_upload_parts: int = 0
    """This many upload parts are refused with 400, as while another request of the session is at work."""
    forget_uploads: int = 0
    """So often an upload that gets a part is unknown."""
    upload_chunk_delay_ms: int = 0
    """How long each 64 KiB of an upload take."""
    refuse_bot_status: int = 0
    """Every request of the bot is answered with this status, as by a proxy before a server that is down."""
    publish_delay_ms: int = 0
    """Publications take so long, half of it before the post exists."""
    refuse_publications: int = 0
    """This many publications are refused with 503 before a post is made."""
    signal_delay_ms: int = 0
    """Hold every `signal` event this long, in order."""
    lose_publish_answers: int = 0
    """This many publications happen, but are answered with 500 (trap 36)."""

    def set(self, values: dict[str, Any]) -> None:
        """Change some. Raises ValueError naming an unknown or wrongly typed one."""
        kinds = {f.name: type(getattr(self, f.name)) for f in fields(self)}
        for name, value in values.items():
            if name not in kinds:
                raise ValueError(f"fault {name!r} is not one of {', '.join(kinds)}")
            if type(value) is not kinds[name]:
                raise ValueError(f"fault {name} = {value!r}: should be {kinds[name].__name__}")
            setattr(self, name, value)

    def take(self, name: str) -> bool:
        """Use one of a counted fault up."""
        left: int = getattr(self, name)
        if left <= 0:
            return False
        setattr(self, name, left - 1)
        return True

    async def delay_signal(self) -> None:
        if self.signal_delay_ms:
            await asyncio.sleep(self.signal_delay_ms / 1000)
