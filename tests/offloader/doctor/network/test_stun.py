"""Our STUN messages against the RFCs' own bytes, and against the ones of the SFU's own package."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rtc.stun
from offloader.doctor.network import stun
from offloader.doctor.network.stun import StunError

_PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"
_SAMPLE_RESPONSE = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
)
"""RFC 5769 section 2.2: the response of an ICE agent to a check, signed with that password."""
_SAMPLE_RESPONSE_6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a147"
    "0113a9faa5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c"
)
"""RFC 5769 section 2.3."""


@pytest.mark.parametrize(
    ("sample", "address"),
    [
        (_SAMPLE_RESPONSE, ("192.0.2.1", 32853)),
        (_SAMPLE_RESPONSE_6, ("2001:db8:1234:5678:11:2233:4455:6677", 32853)),
    ],
)
def test_the_samples_of_the_rfc_are_read(sample: bytes, address: tuple[str, int]) -> None:
    response = stun.parse_response(sample)
    assert response.succeeded
    assert response.method == stun.BINDING
    assert response.address() == address
    assert response.integrity_holds(_PASSWORD)
    assert not response.integrity_holds(b"another password")


@pytest.mark.parametrize("at", [24, 45, 60, len(_SAMPLE_RESPONSE) - 1])
def test_a_changed_byte_does_not_pass_the_fingerprint(at: int) -> None:
    damaged = bytearray(_SAMPLE_RESPONSE)
    damaged[at] ^= 1
    with pytest.raises(StunError):
        stun.parse_response(bytes(damaged))


def test_a_check_is_one_for_the_package_that_the_sfu_is_made_of() -> None:
    transaction_id = stun.new_transaction_id()
    raw = stun.connectivity_check(
        transaction_id, ufrags=("theirs", "ours"), password="secret", tie_breaker=bytes(8)
    )
    message = rtc.stun.parse_message(raw)
    assert message.kind == rtc.stun.BINDING_REQUEST
    assert (message.username, message.use_candidate) == ("theirs:ours", False)
    assert message.controlling == 0
    assert message.integrity_holds(b"secret")
    assert rtc.stun.is_stun(raw)


def test_its_answer_is_ours() -> None:
    transaction_id = stun.new_transaction_id()
    raw = rtc.stun.binding_success(transaction_id, mapped=("203.0.113.9", 4000), key=b"secret")
    response = stun.parse_response(raw)
    assert (response.transaction_id, response.address()) == (transaction_id, ("203.0.113.9", 4000))
    assert response.integrity_holds(b"secret")
    refused = stun.parse_response(rtc.stun.binding_error(transaction_id, code=487, key=None))
    assert (refused.succeeded, refused.error_code) == (False, 487)


def test_the_long_term_key_is_the_one_of_the_rfc() -> None:
    # RFC 8489 section 9.2.2: user:realm:SASLprep(pass).
    assert stun.long_term_key("user", "realm", "pass").hex() == "8493fbc53ba582fb4c044c456bdc40eb"


@given(
    st.binary(max_size=200) | st.binary(max_size=100).map(lambda rest: _SAMPLE_RESPONSE[:40] + rest)
)
def test_any_bytes_are_a_response_or_refused(data: bytes) -> None:
    try:
        response = stun.parse_response(data)
    except StunError:
        return
    response.address()
    response.integrity_holds(b"key")
    assert 0 <= response.error_code <= 799


def test_requests_are_no_responses() -> None:
    with pytest.raises(StunError, match="no response"):
        stun.parse_response(stun.request(stun.BINDING, os.urandom(12)))
