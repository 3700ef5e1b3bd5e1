"""A launch travels sealed: nobody else reads, changes or moves it."""

from __future__ import annotations

import pytest

from offloader.backends.base import LaunchRequest
from offloader.backends.celery.messages import LaunchOrder, launch_queue
from offloader.backends.remote.wire import seal
from offloader.models import JobType
from offloader.store.secret_key import Cipher

CIPHER = Cipher("k" * 32)
REQUEST = LaunchRequest("a" * 12, JobType.RECORDING, "runner:1", {"auth_token": "hush"}, 3600)


def test_an_order_arrives_as_it_was_given() -> None:
    order = LaunchOrder.of(REQUEST, claim_url="http://replica:4545")
    read = LaunchOrder.unsealed(CIPHER, order.sealed(CIPHER, "a" * 12), "a" * 12)
    assert read == order
    assert read.request("a" * 12) == REQUEST


def test_neither_the_message_nor_its_repr_shows_a_secret() -> None:
    order = LaunchOrder.of(REQUEST, claim_url="http://replica:4545")
    assert "hush" not in order.sealed(CIPHER, "a" * 12)
    assert "hush" not in repr(order)


@pytest.mark.parametrize("change", ["key", "job", "text", "form"])
def test_what_is_not_for_this_job_under_this_key_is_not_read(change: str) -> None:
    sealed = LaunchOrder.of(REQUEST, claim_url="http://r").sealed(CIPHER, "a" * 12)
    cipher, job_id = CIPHER, "a" * 12
    match change:
        case "key":
            cipher = Cipher("x" * 32)
        case "job":
            job_id = "b" * 12
        case "text":
            sealed = sealed[:-8] + "AAAAAAAA"
        case "form":
            sealed = seal(CIPHER, {"job_type": "dancing"}, context=("launch", job_id))
    assert LaunchOrder.unsealed(cipher, sealed, job_id) is None


def test_queues_are_named_after_installation_type_and_label() -> None:
    assert launch_queue("calls", JobType.RECORDING) == "calls.recording"
    assert launch_queue("site-2", JobType.TRANSCRIBING, "gpu") == "site-2.transcribing.gpu"
