"""What of a job's result is uploaded and posted already, kept on disk.

Posting is not idempotent (trap 36): before each step its intent is written down, after it the outcome, so
that a retry or `salvage` goes on where the dead process stopped and never makes a second post knowingly.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from callclient.plugin_api import ApiError
from foundation.logs import get_logger
from foundation.retry import Backoff, retry
from jobs.job_directory import write_private

_FILE = "publication.json"
_BACKOFF = Backoff(attempts=10, first_wait_s=1.0, growth=1.6, max_wait_s=30.0)


@dataclass(slots=True)
class _State:
    uploaded: dict[str, str] = field(default_factory=dict)
    """File name in the job's directory to the server's file id."""
    posting: bool = False
    """A post was asked for and its answer is not known yet."""
    posted: bool = False
    certain: bool = False
    """The server said so; otherwise the answer was lost, and the files must stay."""


class PublishState:
    """The record in one job directory. Every change is on disk before the method returns."""

    def __init__(self, directory: Path) -> None:
        """Raises ValueError when an existing record is damaged."""
        self._path = directory / _FILE
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
        self._save()

    async def post_once(self, post: Callable[[], Awaitable[None]]) -> None:
        """Make the post unless it exists.

        Repeated only when the request surely did not arrive, or was refused with an answer that may
        change (429, 502, 503). A lost answer counts as posted, but not as certain: a duplicate in the thread
        is worse than files that an admin may publish by hand.

        Raises:
            ApiError: refused for good; the state stays unposted.
        """
        if self.posted:
            return
        if self.in_doubt:
            self._log.warning("publication.in_doubt", action="taken as posted, files kept")
            self._finish(certain=False)
            return
        self._state.posting = True
        self._save()
        try:
            await retry(post, backoff=_BACKOFF, retryable=_may_repeat)
        except ApiError as error:
            if error.status is None and not error.surely_not_arrived:
                self._log.warning("publication.answer_lost", action="taken as posted, files kept")
            elif error.status is not None and error.status >= 500:
                # A 500 may come after the post was made (trap 36).
                self._log.warning("publication.answer_5xx", status=error.status)
            else:
                self._state.posting = False
                self._save()
                raise
            self._finish(certain=False)
            return
        self._finish(certain=True)

    def _finish(self, *, certain: bool) -> None:
        self._state.posted, self._state.posting = True, False
        self._state.certain = certain
        self._save()

    def _save(self) -> None:
        write_private(self._path, json.dumps(asdict(self._state)))


def salvage_exit_code(error: Exception) -> int:
    """3 when the site refused for good, so that trying again is in vain; else 1 (docs/job-contract.md 4).

    400 is its answer when channel or post are gone (calls-plugin.md 5.3, 5.4). 401 and 403 heal with a
    new token, 404 with the plugin's activation.
    """
    return 3 if isinstance(error, ApiError) and error.status == 400 else 1


def _may_repeat(error: Exception) -> bool:
    return isinstance(error, ApiError) and (
        error.surely_not_arrived or error.status in (429, 502, 503)
    )


def _read(path: Path) -> _State:
    if not path.exists():
        return _State()
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return _State(
            uploaded={str(k): str(v) for k, v in value["uploaded"].items()},
            posting=bool(value["posting"]),
            posted=bool(value["posted"]),
            certain=bool(value["certain"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: is damaged; see which files are posted before removing it"
        ) from error
