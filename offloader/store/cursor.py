"""Where a listing goes on: a job's place in the order by creation, as a text that means nothing outside."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

from foundation.clock import epoch_ms
from offloader.errors import InvalidCursor
from offloader.models import Job


class Cursor(NamedTuple):
    """Compares as jobs are ordered, oldest first; the ID tells jobs of the same millisecond apart."""

    created_at_ms: int
    job_id: str

    @classmethod
    def of(cls, job: Job) -> Cursor:
        return cls(epoch_ms(job.created_at), job.id)

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Raises InvalidCursor."""
        try:
            moment, dot, job_id = base64.urlsafe_b64decode(text.encode()).decode().partition(".")
            if not (dot and job_id) or not moment.isascii() or not moment.isdigit():
                raise ValueError
            if len(moment) > 15 or "\0" in job_id:
                raise ValueError
            return cls(int(moment), job_id)
        except (ValueError, binascii.Error) as error:
            raise InvalidCursor(
                "before: not a cursor of this service: should be `next` of a page"
            ) from error

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(f"{self.created_at_ms}.{self.job_id}".encode()).decode()
