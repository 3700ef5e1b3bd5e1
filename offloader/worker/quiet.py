"""Keeps Celery's own log lines to what an admin needs, without any message's content."""

from __future__ import annotations

import logging
import warnings
from typing import Final

from celery.app import trace
from celery.exceptions import CPendingDeprecationWarning
from celery.worker.consumer import consumer

_WITH_CONTENT: Final = {
    consumer.UNKNOWN_FORMAT: "a message of unknown form was rejected",
    consumer.UNKNOWN_TASK_ERROR: "a message of an unknown task was rejected",
    consumer.INVALID_TASK_ERROR: "a message that is no task was rejected",
    consumer.MESSAGE_DECODE_ERROR: "a message that cannot be decoded was dropped",
}
_LIBRARIES: Final = ("celery", "kombu", "amqp", "billiard", "httpx", "httpcore")


class _NoContent(logging.Filter):
    """Celery shows whole messages where it cannot use them."""

    def filter(self, record: logging.LogRecord) -> bool:
        short = _WITH_CONTENT.get(record.msg) if isinstance(record.msg, str) else None
        if short is not None:
            record.msg, record.args, record.exc_info = short, (), None
        return True


_no_content: Final = _NoContent()


def quiet_celery() -> None:
    """For this process. Idempotent."""
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(logging.WARNING)
    # A message that is given back is nothing to warn of.
    logging.getLogger(trace.__name__).setLevel(logging.ERROR)
    logging.getLogger(consumer.__name__).addFilter(_no_content)
    # Said at each lost connection, of a default that a later release will change; ours is chosen.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
