"""STUN messages as TURN needs them, and the cutting of streams."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtc.net import turn_link
from rtc.turn import messages
from rtc.turn.messages import Attribute, Kind, Method, StreamReader, TurnMessageError

SAMPLE = bytes.fromhex(
    "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe382b9000000"
    "15001c662f2f3439396b39353464364f4c33346f4c39465354767936347341"
    "0014000b6578616d706c652e6f72670000080014f67024656dd64a3e02b8e0712e85c9a28ca89666"
)
"""RFC 5769 section 2.4: a request with long-term authentication."""


def test_the_sample_of_rfc_5769_holds() -> None:
    message = messages.parse(SAMPLE)
    key = messages.long_term_key("マトリックス", "example.org", "TheMatrIX")
    assert message.integrity_holds(key)
    assert message.attributes[Attribute.REALM] == b"example.org"
    assert not message.integrity_holds(messages.long_term_key("a", "example.org", "TheMatrIX"))


@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("kind", list(Kind))
def test_method_and_class_survive_their_interleaved_bits(method: Method, kind: Kind) -> None:
    parsed = messages.parse(messages.build(method, kind, bytes(12)))
    assert (parsed.method, parsed.kind) == (method, kind)


@pytest.mark.parametrize("address", [("192.0.2.1", 1), ("2001:db8::1", 65535)])
def test_addresses_survive_their_masking(address: tuple[str, int]) -> None:
    transaction_id = messages.new_transaction_id()
    attribute = Attribute.XOR_PEER_ADDRESS
    message = messages.build(
        Method.SEND,
        Kind.INDICATION,
        transaction_id,
        messages.encode_address(attribute, address, transaction_id),
    )
    assert messages.parse(message).address(attribute) == address


def test_what_follows_the_integrity_is_not_believed() -> None:
    late = messages.encode(Attribute.LIFETIME, bytes(4))
    signed = messages.build(Method.REFRESH, Kind.REQUEST, bytes(12), b"", key=b"k")
    length = (len(signed) - 20 + len(late)).to_bytes(2, "big")
    tampered = signed[:2] + length + signed[4:] + late
    assert messages.parse(tampered).lifetime_s is None


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=60)), max_size=8), st.integers(1, 40))
def test_a_stream_is_cut_where_its_messages_end_however_it_arrives(
    wanted: list[tuple[bool, bytes]], step: int
) -> None:
    stream, expected = b"", []
    for is_channel, data in wanted:
        if is_channel:
            stream += messages.channel_data(0x4001, data, padded=True)
            expected.append(messages.channel_data(0x4001, data, padded=False))
        else:
            message = messages.build(
                Method.DATA, Kind.INDICATION, bytes(12), messages.encode(Attribute.DATA, data)
            )
            stream += message
            expected.append(message)
    reader = StreamReader()
    got = []
    for start in range(0, len(stream), step):
        got += reader.push(stream[start : start + step])
    assert got == expected


@given(st.binary(max_size=300))
def test_a_stream_of_anything_ends_in_messages_or_an_error(data: bytes) -> None:
    try:
        cut = StreamReader().push(data)
    except TurnMessageError:
        return
    assert sum(map(len, cut)) <= len(data)


@given(st.binary(max_size=300))
def test_any_datagram_gives_a_message_or_an_error(data: bytes) -> None:
    for candidate in (data, SAMPLE[:20] + data):
        try:
            messages.parse(candidate)
        except TurnMessageError:
            continue


@pytest.mark.documents("a-turn-server-that-is-none", "a-turn-server-that-is-none/2")
def test_whatever_else_listens_there_is_told_by_what_it_sends(documented) -> None:
    for number, sent in (("", b"SSH-2.0-OpenSSH_9.2"), ("/2", b"\0\1\xff\xfc")):
        told: list[str] = []
        link = turn_link._StreamLink(lambda message: None, told.append)
        link.data_received(sent)
        (reason,) = told
        documented(f"a-turn-server-that-is-none{number}", reason)
