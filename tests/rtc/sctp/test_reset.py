"""Streams that are reset, and the channels on them."""

from __future__ import annotations

from collections.abc import Callable
from struct import pack
from typing import Any

import pytest

from rtc.sctp.association import Association
from rtc.sctp.channels import MAX_CHANNELS, Channels, DataChannel
from rtc.sctp.chunks import ChunkType, chunk
from rtc.sctp.dcep import Ppid, build_open, parse_open
from rtc.sctp.events import Message, StreamsFree, StreamsReset

FAR_FUTURE_NS = 1 << 62
BINARY = 53


class Side:
    """Channels over one end of a link, with what they report."""

    def __init__(self, association: Association, role: Any) -> None:
        self.opened: list[DataChannel] = []
        self.messages: list[tuple[str, bytes | str]] = []
        self.channels = Channels(
            association,
            role=role,
            on_open=self.opened.append,
            on_message=lambda channel, message: self.messages.append((channel.label, message)),
            changed=lambda: None,
        )

    def take(self, events: list[Any]) -> None:
        for event in events:
            if isinstance(event, Message):
                self.channels.message(event)
            elif isinstance(event, StreamsReset):
                self.channels.streams_reset(event.streams)
            elif isinstance(event, StreamsFree):
                self.channels.streams_free(event.streams)
        events.clear()


class Channeled:
    """A link with channels on both ends; `a` is the DTLS client."""

    def __init__(self, link: Any) -> None:
        self.link = link
        self.a = Side(link.a.association, "client")
        self.b = Side(link.b.association, "server")

    def run(self) -> Channeled:
        while True:
            self.link.run()
            if not self.link.a.events and not self.link.b.events:
                return self
            self.a.take(self.link.a.events)
            self.b.take(self.link.b.events)


@pytest.fixture
def channeled(link: Any) -> Channeled:
    return Channeled(link)


@pytest.fixture
def opened(channeled: Channeled) -> Channeled:
    channeled.a.channels.create("calls-dc")
    return channeled.run()


def test_a_channel_opens_on_both_sides_under_its_label(channeled: Channeled) -> None:
    channeled.a.channels.create("calls-dc")
    channeled.b.channels.create("ü")
    channeled.run()
    assert sorted(channel.label for channel in channeled.a.opened) == ["calls-dc", "ü"]
    assert sorted(channel.label for channel in channeled.b.opened) == ["calls-dc", "ü"]
    assert {channel.label: channel.stream for channel in channeled.b.opened} == {
        "calls-dc": 0,
        "ü": 1,
    }


@pytest.mark.parametrize("message", [b"", b"\0", b"\xcc\x01", "", "ping", "é"])
def test_bytes_and_text_stay_what_they_are(opened: Channeled, message: bytes | str) -> None:
    assert opened.a.opened[0].send(message)
    assert opened.b.opened[0].send(message)
    opened.run()
    assert opened.a.messages == opened.b.messages == [("calls-dc", message)]


def test_an_opening_channel_takes_no_messages(channeled: Channeled) -> None:
    channel = channeled.a.channels.create("calls-dc")
    assert not channel.open
    assert not channel.send(b"x")


def test_a_message_too_large_is_refused_and_counted(opened: Channeled) -> None:
    assert not opened.a.opened[0].send(bytes(300_000))
    assert opened.a.channels.unsent_messages == 1


@pytest.mark.parametrize("closer", ["a", "b"])
def test_closing_reaches_the_other_side_after_all_that_was_sent(
    opened: Channeled, closer: str
) -> None:
    near, far = (opened.a, opened.b) if closer == "a" else (opened.b, opened.a)
    assert near.opened[0].send(bytes(50_000))
    near.opened[0].close()
    near.opened[0].close()
    assert not near.opened[0].send(b"late")
    opened.run()
    assert far.messages == [("calls-dc", bytes(50_000))]
    assert not far.opened[0].open
    assert opened.link.due_ns == FAR_FUTURE_NS


def test_both_may_close_at_once(opened: Channeled) -> None:
    opened.a.opened[0].close()
    opened.b.opened[0].close()
    opened.run()
    assert opened.a.channels._by_stream == opened.b.channels._by_stream == {}


@pytest.mark.parametrize("seed", range(8))
def test_a_stream_is_used_again_after_both_directions_are_closed(
    make_link: Callable[..., Any], seed: int
) -> None:
    link = make_link(seed=seed, jitter_ns=20_000_000).connect()
    link.loss = link.doubled = 0.2
    channeled = Channeled(link)
    for number in range(4):
        channel = channeled.a.channels.create(f"channel {number}")
        channeled.run()
        assert channel.stream == 0
        for count in range(3):
            assert channel.send(bytes([number, count]))
        channel.close()
        channeled.run()
        assert channeled.b.messages[-3:] == [
            (f"channel {number}", bytes([number, count])) for count in range(3)
        ]
        assert channeled.a.channels._by_stream == channeled.b.channels._by_stream == {}


def opening(label: str = "x") -> bytes:
    return build_open(label)


def from_b(channeled: Channeled, stream: int, payload: bytes, protocol: int = Ppid.DCEP) -> None:
    channeled.link.b.association.send(stream, protocol, payload)
    channeled.run()


def test_a_channel_on_one_of_our_streams_is_closed_again(channeled: Channeled) -> None:
    from_b(channeled, 0, opening())
    assert channeled.a.opened == []
    assert channeled.a.channels.refused_channels == 1


def test_no_more_channels_than_the_limit_are_made(channeled: Channeled) -> None:
    for stream in range(1, 2 * MAX_CHANNELS + 41, 2):
        channeled.link.b.association.send(stream, Ppid.DCEP, opening())
    channeled.run()
    assert len(channeled.a.opened) == MAX_CHANNELS
    assert channeled.a.channels.refused_channels == 20


def test_a_second_open_on_a_stream_closes_its_channel(channeled: Channeled) -> None:
    from_b(channeled, 1, opening())
    assert channeled.a.opened[0].open
    from_b(channeled, 1, opening())
    assert not channeled.a.opened[0].open
    assert channeled.a.channels.refused_channels == 1


@pytest.mark.parametrize(
    ("payload", "protocol"),
    [
        (b"\x02", Ppid.DCEP),
        (b"\x03", Ppid.DCEP),
        (b"\x03" + bytes(7) + b"\xff\xff\0\0", Ppid.DCEP),
        (pack("!BBHIHH", 3, 0, 0, 0, 2000, 0) + bytes(2000), Ppid.DCEP),
        (b"data", Ppid.BINARY),
        (b"data", 99),
    ],
)
def test_what_belongs_to_no_channel_is_dropped(
    channeled: Channeled, payload: bytes, protocol: int
) -> None:
    from_b(channeled, 1, payload, protocol)
    assert channeled.a.opened == []
    assert channeled.a.messages == []


def test_text_that_is_no_utf_8_is_dropped(opened: Channeled) -> None:
    opened.link.b.association.send(0, Ppid.TEXT, b"\xff\xfe")
    opened.run()
    assert opened.a.messages == []
    assert opened.a.channels.refused_messages == 1


def test_an_unordered_channel_is_answered_unordered(channeled: Channeled) -> None:
    asked = pack("!BBHIHH", 3, 0x82, 0, 1000, 1, 4) + b"uprot"
    from_b(channeled, 1, asked)
    assert channeled.a.opened[0].unordered
    assert channeled.a.opened[0].label == "u"


def test_an_open_as_browsers_send_it_is_read() -> None:
    chromium = bytes.fromhex("03000000000000000008000063616c6c732d6463")
    read = parse_open(chromium)
    assert read is not None
    assert (read.label, read.unordered) == ("calls-dc", False)


# the chunks themselves


def reconfig(*parameters: bytes) -> bytes:
    return chunk(ChunkType.RE_CONFIG, b"".join(parameters))


def outgoing(number: int, last_tsn: int, *streams: int) -> bytes:
    numbers = b"".join(pack("!H", stream) for stream in streams)
    head = pack("!HHIII", 13, 16 + len(numbers), number % 2**32, 0, last_tsn % 2**32)
    return head + numbers + bytes(-len(numbers) & 3)


def results(link: Any, chunks: Any) -> list[int]:
    """Of the answers that `a` gave; forgotten then."""
    answers = [
        int.from_bytes(value[8:12])
        for _, packet in link.a.sent
        for name, _, value in chunks(packet)
        if name == "RE_CONFIG" and value[:2] == b"\0\x10"
    ]
    link.a.sent.clear()
    return answers


def numbers_of(link: Any) -> tuple[int, int]:
    """The next request number and TSN that `a` expects."""
    return link.b.association._handshake.tsn, link.a.association._inbound.cumulative + 1


def test_a_request_is_performed_once_and_answered_each_time(link: Any, chunks: Any) -> None:
    number, tsn = numbers_of(link)
    for _ in range(3):
        link.forge(link.a, reconfig(outgoing(number, tsn - 1, 4)))
    assert results(link, chunks) == [1, 1, 1]
    assert link.a.events == [StreamsReset((4,))]


def test_a_request_waits_for_the_data_before_it(link: Any, chunks: Any, data: Any) -> None:
    number, tsn = numbers_of(link)
    link.forge(link.a, reconfig(outgoing(number, tsn + 1, 4)))
    link.forge(link.a, reconfig(outgoing(number, tsn + 1, 4)))
    assert results(link, chunks) == [6, 6]
    link.forge(link.a, data(tsn, stream=4))
    assert link.a.messages == [b"x"]
    assert StreamsReset((4,)) not in link.a.events
    link.forge(link.a, data(tsn + 1, stream=4, sequence=1))
    assert link.a.events[-1] == StreamsReset((4,))
    assert results(link, chunks) == [1]
    link.forge(link.a, data(tsn + 2, b"anew", stream=4))
    assert link.a.messages[-1] == b"anew"


def test_a_request_out_of_turn_and_those_nobody_needs_are_refused(link: Any, chunks: Any) -> None:
    number, tsn = numbers_of(link)
    link.forge(link.a, reconfig(outgoing(number + 1, tsn - 1, 4)))
    assert results(link, chunks) == [5]
    for offset, kind in enumerate((14, 15, 17, 18)):
        link.forge(link.a, reconfig(pack("!HHII", kind, 12, (number + offset) % 2**32, 0)))
    assert results(link, chunks) == [2, 2, 2, 2]
    assert link.a.events == []


def test_a_request_that_names_no_stream_means_all(link: Any, data: Any) -> None:
    number, tsn = numbers_of(link)
    link.forge(link.a, data(tsn, stream=2), data(tsn + 1, stream=3))
    link.forge(link.a, reconfig(outgoing(number, tsn + 1)))
    assert link.a.events[-1] == StreamsReset(())
    link.forge(link.a, data(tsn + 2, b"two", stream=2), data(tsn + 3, b"three", stream=3))
    assert link.a.messages[-2:] == [b"two", b"three"]


def test_a_request_that_is_never_answered_is_given_up(link: Any) -> None:
    link.lose = lambda packet: True
    link.a.association.reset_stream(6)
    link.run()
    assert link.a.events == [StreamsFree((6,))]
    assert link.due_ns == FAR_FUTURE_NS
    assert len(link.a.sent) == 10


def test_many_streams_are_reset_in_turns(link: Any) -> None:
    for stream in range(600):
        link.a.association.reset_stream(stream)
    link.run()
    free = [s for event in link.a.events if isinstance(event, StreamsFree) for s in event.streams]
    assert sorted(free) == list(range(600))
    assert sum(len(event.streams) for event in link.b.events) == 600
