"""What of a job's result is uploaded and posted already, kept on disk.

Posting is not idempotent (trap 36): before each step its intent is written down, after it the outcome, so
that a retry or `salvage` goes on where the dead process stopped. Whoever does not know whether a post was
made asks the server, which knows what post a file is attached to.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from callclient.plugin_api import ApiError, PluginApi
from foundation.logs import get_logger
from foundation.retry import Backoff
from foundation.spans import step
from jobs.copies.fence import Asked, PublisherUnknown, Verdict
from jobs.job_directory import safe_name, write_private
from jobs.uploads import LONGEST_WAIT_S, PATIENCE_S, Uploader

_FILE = "publication.json"
_BACKOFF = Backoff(attempts=1, first_wait_s=1.0, growth=1.6, max_wait_s=30.0)
_SETTLE_S = 3.0
"""A request whose answer got lost, with its connection or with our own process, may still be at work."""


@dataclass(slots=True)
class _State:
    uploaded: dict[str, str] = field(default_factory=dict)
    """File name in the job's directory to the server's file id."""
    sessions: dict[str, str] = field(default_factory=dict)
    """File name to the session of an upload that was begun."""
    posting: bool = False
    """A post was asked for and its answer is not known yet."""
    posted: bool = False
    certain: bool = False
    """The server said so; otherwise the answer was lost, and the files must stay."""


BeforePost = Callable[[str, Asked], Awaitable[Verdict]]
"""Given the ID of a file of the post, and how to learn of what files posts exist: may it be made?"""


class PublishState:
    """The record in one job directory. Every change is on disk before the method returns."""

    def __init__(self, directory: Path, *, before_post: BeforePost | None = None) -> None:
        """`before_post` is awaited before each request for the post, when that is written down.

        Raises ValueError when an existing record is damaged.
        """
        self._path = directory / _FILE
        self._before_post = before_post
        self._state = _read(self._path)
        self._log = get_logger(component="publication")

    @property
    def posted(self) -> bool:
        """The post exists, or may exist: nothing is left to do."""
        return self._state.posted

    @property
    def in_doubt(self) -> bool:
        """A post was asked for and the answer was lost."""
        return self._state.posting and not self._state.posted

    @property
    def certain(self) -> bool:
        """The post surely exists: the files here are no longer needed."""
        return self._state.posted and self._state.certain

    def file_id(self, name: str) -> str | None:
        """The server's id of a file that is uploaded already."""
        return self._state.uploaded.get(name)

    def uploaded(self, name: str, file_id: str) -> None:
        self._state.uploaded[name] = file_id
        self._state.sessions.pop(name, None)
        self._save()

    async def upload_once(
        self,
        api: PluginApi,
        path: Path,
        *,
        channel_id: str,
        filename: str,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> str:
        """The server's id of `path`, uploaded now unless it is there; goes on with a dead process's upload.

        Raises:
            ApiError: refused for good, or in vain for too long; the file is untouched.
            OSError: the file cannot be read, or the record not be written.
        """
        name = path.name
        file_id = self.file_id(name)
        if file_id is not None:
            return file_id
        with step("upload", {"calls.file.kind": path.suffix}):
            file_id = await Uploader(api, on_progress=on_progress).upload(
                path,
                channel_id=channel_id,
                filename=safe_name(filename),
                resume=self._state.sessions.get(name),
                on_session=lambda session: self._upload_began(name, session),
            )
        await asyncio.to_thread(self.uploaded, name, file_id)
        return file_id

    async def post_once(
        self, post: Callable[[], Awaitable[None]], *, file_id: str, exists: Asked
    ) -> None:
        """Make the post, which has the file `file_id`, unless it exists.

        Repeated while the server cannot be reached or refuses with an answer that may change. Whenever the
        post may have been made without our knowing, `exists` has to tell by its file; where nobody can tell,
        it counts as made but not as certain: a duplicate in the thread is worse than files that an admin may
        publish by hand. So does another's post that may lack something of what is here.

        Raises:
            ApiError: refused for good, or in vain for too long; the state stays unposted.
            jobs.copies.fence.PublisherUnknown: so does it; somebody else may publish.
        """
        if self.posted:
            return
        with step("publish") as span:
            await self._post_once(post, file_id=file_id, exists=exists)
            span.note({"calls.certain": self.certain})

    async def _post_once(
        self, post: Callable[[], Awaitable[None]], *, file_id: str, exists: Asked
    ) -> None:
        now_s = asyncio.get_running_loop().time
        in_doubt, failures, began_s = self.in_doubt, 0, now_s()
        self._state.posting = True
        await asyncio.to_thread(self._save)
        while True:
            try:
                if in_doubt:
                    await asyncio.sleep(_SETTLE_S)
                    if await _tells(exists, file_id):
                        break
                    in_doubt = False
                verdict = await self._verdict(file_id, exists)
                if verdict is Verdict.OTHER_IS_POSTED:
                    self._log.warning("publication.was_another", action="files kept")
                    await asyncio.to_thread(self._finish, certain=False)
                    return
                if verdict is Verdict.POST:
                    await post()
                break
            except _NobodyKnows:
                self._log.warning("publication.in_doubt", action="taken as posted, files kept")
                await asyncio.to_thread(self._finish, certain=False)
                return
            except ApiError as error:
                in_doubt = in_doubt or _may_be_done(error)
                failures += 1
                if not error.retryable or now_s() - began_s > PATIENCE_S:
                    if not in_doubt:
                        self._state.posting = False
                        await asyncio.to_thread(self._save)
                    raise
                self._log.warning("publication.retry", failures=failures, status=error.status)
                asked_s = min(error.retry_after_s or 0.0, LONGEST_WAIT_S)
                wait_s = max(_BACKOFF.wait_s(min(failures, 30)), asked_s)
            await asyncio.sleep(wait_s)
        await asyncio.to_thread(self._finish, certain=True)

    async def _verdict(self, file_id: str, exists: Asked) -> Verdict:
        if self._before_post is None:
            return Verdict.POST
        try:
            return await self._before_post(file_id, partial(_tells, exists))
        except ApiError:
            raise
        except BaseException:
            # Nothing was asked for now: that is no doubt to be left behind.
            self._state.posting = False
            await asyncio.to_thread(self._save)
            raise

    def _upload_began(self, name: str, session: str) -> None:
        self._state.sessions[name] = session
        self._save()

    def _finish(self, *, certain: bool) -> None:
        self._state.posted, self._state.posting = True, False
        self._state.certain = certain
        self._save()

    def _save(self) -> None:
        write_private(self._path, json.dumps(asdict(self._state)))


def salvage_exit_code(error: Exception) -> int:
    """3 when the site refused for good, so that trying again is in vain; 4 when nobody can tell who else
    publishes; else 1 (docs/job-contract.md 4).

    400 is its answer when channel or post are gone (calls-plugin.md 5.3, 5.4). 401 and 403 heal with a
    new token, 404 with the plugin's activation.
    """
    if isinstance(error, PublisherUnknown):
        return 4
    return 3 if isinstance(error, ApiError) and error.status == 400 else 1


class _NobodyKnows(Exception):
    """The server does not tell whether the post exists."""


async def _tells(exists: Asked, file_id: str) -> bool:
    try:
        return await exists(file_id)
    except ApiError as error:
        if error.retryable or error.status == 401:
            raise
        raise _NobodyKnows from error


def _may_be_done(error: ApiError) -> bool:
    """No answer, or a 5xx, which may come after the post was made (trap 36)."""
    if error.status is None:
        return not error.surely_not_arrived
    return error.status >= 500


def _read(path: Path) -> _State:
    if not path.exists():
        return _State()
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return _State(
            uploaded={str(k): str(v) for k, v in value["uploaded"].items()},
            sessions={str(k): str(v) for k, v in value.get("sessions", {}).items()},
            posting=bool(value["posting"]),
            posted=bool(value["posted"]),
            certain=bool(value["certain"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{path}: is damaged; see which files are posted before removing it"
        ) from error
