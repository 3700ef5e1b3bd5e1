"""The brokers that tests get: gone when they are stopped, and back with what they were told."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
from kombu import Connection

MESSAGE = {"canary": "yellow"}


@pytest.fixture(params=["redis", pytest.param("rabbitmq", marks=pytest.mark.slow)])
def broker(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue({"redis": "redis_server"}.get(request.param, request.param))


@pytest.mark.timeout(300)  # of RabbitMQ's two starts
def test_a_stopped_broker_is_gone_and_comes_back_with_what_it_was_told(broker: Any) -> None:
    with Connection(broker.url) as connection, connection.SimpleQueue("q") as queue:
        queue.put(MESSAGE)
    parts = urlsplit(broker.url)
    broker.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((parts.hostname, parts.port), timeout=5)
    broker.start()
    with Connection(broker.url) as connection, connection.SimpleQueue("q") as queue:
        assert queue.get(timeout=20).payload == MESSAGE
