"""What an association that has nothing to do costs a server with thousands of them."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

from rtc.sctp.association import Association
from rtc.sctp.channels import Channels
from rtc.sctp.dcep import Ppid
from rtc.sctp.events import Message

IDLE_ASSOCIATION_BYTES = 4500
NOW = 10**12


def nothing(*_: Any) -> None:
    return None


def channels_of(association: Association, role: Any) -> Channels:
    return Channels(association, role=role, on_open=nothing, on_message=nothing, changed=nothing)


def talked() -> tuple[Any, ...]:
    """Two sides with an open channel that have exchanged a message each way."""
    one = Association(local_port=5000, remote_port=5000)
    other = Association(local_port=5000, remote_port=5000)
    near, far = channels_of(one, "client"), channels_of(other, "server")
    one.connect(NOW)
    other.connect(NOW)
    near.create("calls-dc")
    one_turn(one, near, other, far)
    one.send(0, Ppid.BINARY, b"\xcc\x01")
    other.send(0, Ppid.BINARY, b"\xcc\x02")
    one_turn(one, near, other, far)
    assert one.buffered_bytes == other.buffered_bytes == 0
    return one, near, other, far


def one_turn(one: Association, near: Channels, other: Association, far: Channels) -> None:
    for turn in range(12):
        now_ns = NOW + 100_000_000 * turn
        for sender, receiver, channels in ((one, other, far), (other, one, near)):
            sender.tick(now_ns)
            for packet in sender.take_outgoing(now_ns):
                receiver.receive(packet, now_ns)
            for event in receiver.take_events():
                if isinstance(event, Message):
                    channels.message(event)


def test_an_idle_association_takes_less_than_four_and_a_half_kilobytes() -> None:
    kept: list[Any] = [talked()]  # caches of the first use are not counted
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept += [talked() for _ in range(50)]
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / 100 < IDLE_ASSOCIATION_BYTES


def test_a_message_costs_the_same_however_many_went_before(make_link: Callable[..., Any]) -> None:
    link = make_link().connect()
    gc.collect()
    sizes = []
    tracemalloc.start()
    try:
        for _ in range(3):
            for number in range(500):
                assert link.a.association.send(0, 53, number.to_bytes(4))
                link.run()
                for end in (link.a, link.b):
                    end.sent.clear()
                    end.events.clear()
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[2] - sizes[1] < 2000
