"""Who speaks: profiles looked up at first sight, because later the speaker or the call may be gone.

What is known is kept in `speakers.json` (0600) beside the captures, so that a dead job can be finished
with names. Names never enter a log line.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol

from callclient.plugin_api import ApiError, UserProfile
from foundation.logs import get_logger
from foundation.retry import Backoff, retry
from jobs.job_directory import write_private
from jobs.transcriber.formats.cues import UNKNOWN_SPEAKER, display_name

FILE_NAME: Final = "speakers.json"
_BACKOFF: Final = Backoff(attempts=5, first_wait_s=1.0, growth=1.5)
_log = get_logger(component="speakers")


class ProfileSource(Protocol):
    """The two routes that know names (`callclient.plugin_api.PluginApi`)."""

    async def profile(self, channel_id: str, session_id: str) -> UserProfile:
        """Of a session in the ongoing call. Raises ApiError."""

    async def users_by_ids(self, user_ids: list[str]) -> list[UserProfile]:
        """Of users, at any time. Raises ApiError."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """What is kept of a profile."""

    user_id: str
    name: str
    """For display, see `display_name`."""


class SpeakerDirectory:
    """Speakers by session. Lives on the event loop."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME
        self._speakers: dict[str, Speaker] = {}
        self._writing = asyncio.Lock()

    @classmethod
    def load(cls, directory: Path) -> SpeakerDirectory:
        """What an earlier process knew; nothing when it left no readable file. Blocks."""
        found = cls(directory)
        try:
            document = json.loads(found._path.read_text(encoding="utf-8"))
            found._speakers = {
                str(session_id): Speaker(str(entry["user_id"]), str(entry["name"]))
                for session_id, entry in document.items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            _log.warning("speakers.unreadable")
        return found

    def name(self, session_id: str) -> str:
        """The display name, or `Unknown speaker`."""
        speaker = self._speakers.get(session_id)
        return speaker.name if speaker is not None else UNKNOWN_SPEAKER

    def knows(self, session_id: str) -> bool:
        return session_id in self._speakers

    async def look_up(
        self, api: ProfileSource, *, channel_id: str, session_id: str, user_id: str
    ) -> None:
        """Find and keep the speaker's name; never raises for an answer that does not come.

        `user_id` may be empty; it helps when the session is already gone.
        """
        if self.knows(session_id):
            return
        try:
            profile = await retry(
                lambda: api.profile(channel_id, session_id),
                backoff=_BACKOFF,
                retryable=lambda error: isinstance(error, ApiError) and error.retryable,
            )
        except ApiError as error:
            _log.warning("speaker.lookup_failed", session_id=session_id, status=error.status)
            await self.look_up_by_id(api, session_id=session_id, user_id=user_id)
            return
        await self._keep(session_id, profile)

    async def look_up_by_id(self, api: ProfileSource, *, session_id: str, user_id: str) -> None:
        """The way that also works after the speaker left or the call ended."""
        if self.knows(session_id) or not user_id:
            return
        try:
            profiles = await retry(
                lambda: api.users_by_ids([user_id]),
                backoff=_BACKOFF,
                retryable=lambda error: isinstance(error, ApiError) and error.retryable,
            )
        except ApiError as error:
            _log.warning("speaker.unknown", session_id=session_id, status=error.status)
            return
        for profile in profiles:
            if profile.user_id == user_id:
                await self._keep(session_id, profile)

    async def _keep(self, session_id: str, profile: UserProfile) -> None:
        name = display_name(profile.first_name, profile.last_name, profile.username)
        self._speakers[session_id] = Speaker(profile.user_id, name)
        async with self._writing:
            document = {key: asdict(speaker) for key, speaker in self._speakers.items()}
            try:
                await asyncio.to_thread(
                    write_private, self._path, json.dumps(document), may_spend_reserve=False
                )
            except OSError as error:  # the name is known here; only salvage would miss it
                _log.warning("speakers.not_saved", reason=error.strerror)
