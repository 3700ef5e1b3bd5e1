"""Who is in the picture: names and pictures, looked up at first sight and kept.

A session's profile can only be asked for while it is in the call (trap 33). Names never enter a log line.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from callclient.plugin_api import ApiError, UserProfile
from foundation.logs import get_logger
from foundation.retry import Backoff, retry
from jobs.recorder.scene import Person, display_name, short_name

_BACKOFF: Final = Backoff(attempts=5, first_wait_s=0.5, growth=2.0)
_NAMELESS: Final = "Unknown participant"
_log = get_logger(component="people")


class PeopleSource(Protocol):
    """The routes that know people (`callclient.plugin_api.PluginApi`). Each raises ApiError."""

    async def profile(self, channel_id: str, session_id: str) -> UserProfile: ...

    async def users_by_ids(self, user_ids: list[str]) -> list[UserProfile]: ...

    async def user_image(self, user_id: str) -> bytes: ...


class People:
    """By session. Lives on the event loop; `look_up` runs in tasks of the owner."""

    def __init__(
        self,
        source: PeopleSource,
        *,
        channel_id: str,
        on_found: Callable[[], None],
        face: Callable[[bytes], bytes],
    ) -> None:
        """`on_found` is called whenever somebody can be shown who could not before; `face` in a thread: it
        makes of a picture's file what `Person.picture` is, and blocks (`decoding.decoder.Decoder.face`)."""
        self._face = face
        self._source = source
        self._channel_id = channel_id
        self._on_found = on_found
        self._asked: set[str] = set()
        self._people: dict[str, Person] = {}
        self._pictures: dict[str, asyncio.Future[bytes]] = {}

    def find(self, session_id: str) -> Person | None:
        """None while the answer is not there."""
        return self._people.get(session_id)

    def first_sight(self, session_id: str) -> bool:
        """Is this session to be looked up now? True once."""
        if session_id in self._asked:
            return False
        self._asked.add(session_id)
        return True

    async def look_up(self, session_id: str, user_id: str) -> None:
        """Find name and picture; whoever cannot be found is shown without. Never raises ApiError."""
        profile = await self._profile(session_id, user_id)
        name = display_name(profile.first_name, profile.last_name, profile.username)
        picture = await self._picture(profile.user_id) if profile.user_id else b""
        short = short_name(profile.first_name, profile.last_name, profile.username)
        self._people[session_id] = Person(profile.user_id, name or _NAMELESS, picture, short)
        self._on_found()

    async def _profile(self, session_id: str, user_id: str) -> UserProfile:
        try:
            return await retry(
                lambda: self._source.profile(self._channel_id, session_id),
                backoff=_BACKOFF,
                retryable=_worth_repeating,
            )
        except ApiError as error:
            _log.warning("profile.not_found", session_id=session_id, status=error.status)
        try:
            found = await retry(
                lambda: self._source.users_by_ids([user_id]),
                backoff=_BACKOFF,
                retryable=_worth_repeating,
            )
        except ApiError as error:
            _log.warning("user.not_found", session_id=session_id, status=error.status)
            found = []
        return next((p for p in found if p.user_id == user_id), UserProfile(user_id, "", "", ""))

    async def _picture(self, user_id: str) -> bytes:
        """Asked for once for a user, however many sessions they have."""
        known = self._pictures.get(user_id)
        if known is not None:
            return await known
        self._pictures[user_id] = asyncio.get_running_loop().create_future()
        data = b""
        try:
            file = await retry(
                lambda: self._source.user_image(user_id),
                backoff=_BACKOFF,
                retryable=_worth_repeating,
            )
            if file:
                data = await asyncio.to_thread(self._face, file)
        except ApiError as error:
            _log.warning("picture.not_found", status=error.status)
        finally:
            self._pictures[user_id].set_result(data)
        return data


def _worth_repeating(error: Exception) -> bool:
    return isinstance(error, ApiError) and error.retryable
