"""STUN messages: the test vectors of RFC 5769, and whatever else a socket may bring."""

from __future__ import annotations

import random
import time

import pytest

from rtc import stun

REQUEST = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff"
    "80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249"
    "c1b571a280280004e57a3bcf"
)
IPV4_RESPONSE = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
)
IPV6_RESPONSE = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9fa"
    "a5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c"
)
LONG_TERM_REQUEST = bytes.fromhex(
    "000100602112a44278ad3433c6ad72c029da412e00060012e3839ee38388e383aae38383e382afe382b90000"
    "0015001c662f2f3439396b39353464364f4c33346f4c394653547679363473410014000b6578616d706c652e6f726700"
    "00080014f67024656dd64a3e02b8e0712e85c9a28ca89666"
)
KEY = b"VOkJxbRl1RmTxUk/WvJxBt"
TRANSACTION = bytes(range(12))


def request(**changes: object) -> bytes:
    values: dict[str, object] = {
        "username": b"ourufrag:theirs",
        "key": KEY,
        "priority": 7,
        "tie_breaker": bytes(8),
        "controlling": True,
    }
    return stun.binding_request(TRANSACTION, **{**values, **changes})


def resealed(attributes: bytes, kind: int = stun.BINDING_REQUEST) -> bytes:
    """A message with any attributes, and neither integrity nor fingerprint."""
    head = kind.to_bytes(2, "big") + len(attributes).to_bytes(2, "big")
    return head + (0x2112A442).to_bytes(4, "big") + TRANSACTION + attributes


def test_the_sample_request_of_rfc_5769_is_read() -> None:
    message = stun.parse_message(REQUEST)
    assert message.kind == stun.BINDING_REQUEST
    assert message.username == "evtj:h6vY"
    assert message.priority == 0x6E0001FF
    assert message.controlled == 0x932FF9B151263B36
    assert message.controlling is None
    assert not message.use_candidate
    assert message.unknown == ()
    assert message.integrity_holds(KEY)
    assert stun.request_ufrag(REQUEST) == "evtj"


@pytest.mark.parametrize(
    ("vector", "mapped"),
    [
        (IPV4_RESPONSE, ("192.0.2.1", 32853)),
        (IPV6_RESPONSE, ("2001:db8:1234:5678:11:2233:4455:6677", 32853)),
    ],
)
def test_the_sample_responses_of_rfc_5769_are_read(vector: bytes, mapped: tuple[str, int]) -> None:
    message = stun.parse_message(vector)
    assert message.kind == stun.BINDING_SUCCESS
    assert message.mapped == mapped
    assert message.integrity_holds(KEY)
    assert stun.request_ufrag(vector) is None


def test_attributes_that_must_be_understood_and_are_not_are_named() -> None:
    message = stun.parse_message(LONG_TERM_REQUEST)
    assert message.username == "マトリックス"
    assert message.unknown == (0x0015, 0x0014)


def test_another_key_does_not_hold() -> None:
    assert not stun.parse_message(REQUEST).integrity_holds(KEY + b"x")


def test_without_message_integrity_no_key_holds() -> None:
    assert not stun.parse_message(stun.server_request(TRANSACTION)).integrity_holds(b"")


@pytest.mark.parametrize("controlling", [True, False])
@pytest.mark.parametrize("use_candidate", [True, False])
def test_a_request_is_read_as_it_was_built(controlling: bool, use_candidate: bool) -> None:
    tie_breaker = (99).to_bytes(8, "big")
    built = request(controlling=controlling, use_candidate=use_candidate, tie_breaker=tie_breaker)
    message = stun.parse_message(built)
    assert message.transaction_id == TRANSACTION
    assert (message.username, message.priority) == ("ourufrag:theirs", 7)
    assert (message.controlling, message.controlled) == ((99, None) if controlling else (None, 99))
    assert message.use_candidate is use_candidate
    assert message.integrity_holds(KEY)
    assert stun.request_ufrag(built) == "ourufrag"


@pytest.mark.parametrize("mapped", [("203.0.113.9", 65535), ("2001:db8::1", 1), ("::1", 8443)])
def test_a_response_gives_back_the_mapped_address(mapped: tuple[str, int]) -> None:
    message = stun.parse_message(stun.binding_success(TRANSACTION, mapped=mapped, key=KEY))
    assert message.mapped == mapped
    assert message.integrity_holds(KEY)


def test_an_error_tells_its_code_and_the_attributes_not_known() -> None:
    built = stun.binding_error(TRANSACTION, code=420, key=KEY, unknown=(0x0014, 0x0015, 0x7FFF))
    message = stun.parse_message(built)
    assert (message.kind, message.error_code) == (stun.BINDING_ERROR, 420)
    assert message.integrity_holds(KEY)


def test_of_attributes_alike_the_first_counts() -> None:
    both = b"\x00\x24\x00\x04" + bytes([0, 0, 0, 1]) + b"\x00\x24\x00\x04" + bytes([0, 0, 0, 2])
    assert stun.parse_message(resealed(both)).priority == 1


def test_what_follows_message_integrity_is_not_believed() -> None:
    """Anybody on the way could have added it (RFC 8489 section 14.5)."""
    built = request()
    covered = built[20:-8] + b"\x00\x25\x00\x00"  # USE-CANDIDATE in the fingerprint's place
    message = stun.parse_message(resealed(covered))
    assert not message.use_candidate
    # The first part is what it was, but for the length, which integrity leaves out.
    assert message.integrity_holds(KEY)


@pytest.mark.parametrize(
    ("datagram", "complaint"),
    [
        (b"", "0 bytes"),
        (REQUEST[:19], "19 bytes"),
        (REQUEST + bytes(4), "length field"),
        (REQUEST[:-4], "length field"),
        (bytes(4000), "4000 bytes"),
        (b"\x80" + REQUEST[1:], "not a STUN binding message"),
        (b"\x00\x03" + REQUEST[2:], "not a STUN binding message"),
        (REQUEST[:4] + b"abcd" + REQUEST[8:], "not a STUN binding message"),
        (REQUEST[:-1] + b"\x00", "FINGERPRINT does not match"),
        (REQUEST[:40] + b"X" + REQUEST[41:], "FINGERPRINT does not match"),
        (resealed(b"\x80\x28\x00\x04abcd\x00\x25\x00\x00"), "not the last attribute"),
        (resealed(b"\x00\x06\x00\x09abcd"), "runs over the end"),
        (resealed(b"\x00\x06\x00\x02\xff\xfe\x00\x00"), "not UTF-8"),
        (resealed(b"\x00\x24\x00\x02ab\x00\x00"), "0x0024 has 2 bytes"),
        (resealed(b"\x00\x08\x00\x04abcd"), "0x0008 has 4 bytes"),
        (resealed(b"\x00\x20\x00\x04\x00\x01ab"), "neither IPv4 nor IPv6"),
        (resealed(b"\x00\x20\x00\x00"), "neither IPv4 nor IPv6"),
        (resealed(b"\x00\x09\x00\x00"), "ERROR-CODE has 0 bytes"),
    ],
)
def test_what_is_malformed_is_refused_by_name(datagram: bytes, complaint: str) -> None:
    with pytest.raises(stun.StunError, match=complaint):
        stun.parse_message(datagram)


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        REQUEST[:24],
        IPV4_RESPONSE,
        resealed(b""),
        resealed(b"\x00\x06\x00\x04abcd"),  # no colon
        resealed(b"\x00\x24\xff\xffabcd"),
        REQUEST[:4] + b"abcd" + REQUEST[8:],
    ],
)
def test_no_ufrag_is_found_where_there_is_none(datagram: bytes) -> None:
    assert stun.request_ufrag(datagram) is None


def test_any_input_gives_a_message_or_a_stun_error() -> None:
    randomness = random.Random(5769)
    seeds = [REQUEST, IPV4_RESPONSE, IPV6_RESPONSE, LONG_TERM_REQUEST, request(use_candidate=True)]
    read = 0
    for _ in range(5000):
        data = bytearray(randomness.choice(seeds))
        for _ in range(randomness.randint(1, 6)):
            at = randomness.randrange(len(data))
            match randomness.randrange(4):
                case 0:
                    data[at] = randomness.randrange(256)
                case 1:
                    del data[at : at + randomness.randint(1, 8)]
                case 2:
                    data[at:at] = randomness.randbytes(randomness.randint(1, 8))
                case _ if len(data) >= 4:
                    data[2:4] = (len(data) - 20 & 0xFFFF).to_bytes(2, "big")
                case _:
                    pass
            if not data:
                data = bytearray(b"\x00")
        stun.request_ufrag(bytes(data))
        try:
            message = stun.parse_message(bytes(data))
        except stun.StunError:
            continue
        message.integrity_holds(KEY)
        read += 1
    assert 0 < read < 5000


def test_the_longest_chain_of_empty_attributes_is_read_in_bounded_time() -> None:
    chain = resealed(b"\x7f\xff\x00\x00" * ((stun.MAX_MESSAGE_BYTES - 20) // 4))
    started = time.process_time()
    message = stun.parse_message(chain)
    stun.request_ufrag(chain)
    assert time.process_time() - started < 1
    assert len(message.unknown) <= 16


@pytest.mark.parametrize("tag", ["", "7", "zz"])
def test_a_transaction_id_has_twelve_bytes_and_begins_with_its_tag(tag: str) -> None:
    one, other = stun.new_transaction_id(tag), stun.new_transaction_id(tag)
    assert len(one) == len(other) == 12
    assert one.startswith(tag.encode())
    assert one != other


@pytest.mark.parametrize(
    ("datagram", "expected"),
    [
        (REQUEST, True),
        (IPV4_RESPONSE, True),
        (REQUEST[:19], False),
        (b"\x80" + REQUEST[1:], False),  # RTP
        (b"\x16" + REQUEST[1:], False),  # DTLS
        (REQUEST[:4] + b"abcd" + REQUEST[8:], False),
    ],
)
def test_stun_is_told_from_media(datagram: bytes, expected: bool) -> None:
    assert stun.is_stun(datagram) is expected
