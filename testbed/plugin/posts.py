"""Posts and files of the stand-in's one thread (sections 5.4, 5.5, 5.8)."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed.plugin.world import random_id


@dataclass(slots=True)
class Post:
    """A message in the thread."""

    type: str
    message: str
    create_at: int
    post_id: str = field(default_factory=random_id)
    file_ids: list[str] = field(default_factory=list)
    props: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A complete upload."""

    file_id: str
    name: str
    size_bytes: int
    path: Path


class NotLinked(Exception):
    """The call post does not name any jobs: they were never started from it."""


class Archive:
    """Keeps everything that was posted; files on disk."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._directory.mkdir(parents=True, exist_ok=True)
        self.posts: dict[str, Post] = {}
        self.files: dict[str, StoredFile] = {}

    def add_post(self, post: Post) -> Post:
        self.posts[post.post_id] = post
        return post

    def add_file(self, source: Path, name: str) -> StoredFile:
        """Take a finished upload over."""
        file_id = random_id()
        target = self._directory / file_id
        shutil.move(source, target)
        stored = StoredFile(file_id, name, target.stat().st_size, target)
        self.files[file_id] = stored
        return stored

    def publish_recording(
        self, *, call_post: Post, job_id: str, file_ids: list[str], now_ms: int
    ) -> Post:
        """Not idempotent, like the plugin's (trap 36)."""
        post = self.add_post(
            Post(
                "custom_calls_recording",
                "Here's the call recording",
                now_ms,
                file_ids=file_ids[:1],
                props={"recording_id": job_id, "call_post_id": call_post.post_id},
            )
        )
        entry = call_post.props.setdefault("recordings", {}).setdefault(job_id, {})
        entry |= {"file_id": file_ids[0], "post_id": post.post_id}
        return post

    def publish_transcription(
        self,
        *,
        call_post: Post,
        job_id: str,
        language: str,
        title: str,
        file_ids: list[str],
        now_ms: int,
    ) -> bool:
        """Post the text; False when the recording was not published before (a warning, trap 38).

        Raises NotLinked after the post was made.
        """
        captions = [{"title": title or language, "language": language, "file_id": file_ids[0]}]
        call_post.file_ids.append(file_ids[0])
        post = self.add_post(
            Post(
                "custom_calls_transcription",
                "Here's the call transcription",
                now_ms,
                file_ids=file_ids[1:2],
                props={
                    "call_post_id": call_post.post_id,
                    "transcription_id": job_id,
                    "captions": captions,
                },
            )
        )
        for linked in ("transcriptions", "recordings"):
            if linked not in call_post.props:
                raise NotLinked(f"the call post has no {linked}")
        entry = call_post.props["transcriptions"].setdefault(job_id, {})
        entry |= {"file_id": file_ids[1], "post_id": post.post_id}
        recording_id = entry.get("rec_id", "")
        recording = call_post.props["recordings"].get(recording_id, {})
        recording_post = self.posts.get(recording.get("post_id", ""))
        if recording_post is None:
            return False
        recording_post.props["captions"] = captions
        return True
