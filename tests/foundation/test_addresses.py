"""Addresses where no site is."""

from __future__ import annotations

import pytest

from foundation.addresses import why_forbidden


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("169.254.169.254", "link-local"),
        ("169.254.0.1", "link-local"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("::ffff:169.254.169.254", "link-local"),
        ("64:ff9b::a9fe:a9fe", "link-local"),
        ("64:ff9b:1::a9fe:a9fe", "link-local"),
        ("::a9fe:a9fe", "link-local"),
        ("::ffff:0:a9fe:a9fe", "link-local"),
        ("2002:a9fe:a9fe::", "link-local"),
        ("2852039166", "link-local"),
        ("0xA9FEA9FE", "link-local"),
        ("0251.0376.43518", "link-local"),
        ("169.254.169.254.", "link-local"),
        ("169\u3002254\u3002169\u3002254", "link-local"),
        ("\uff11\uff16\uff19.254.169.254", "link-local"),
        ("0", "no host's"),
        ("fd00:ec2::23", "metadata"),
        ("fd20:ce::254", "metadata"),
        ("fd00:c1::a9fe:a9fe", "metadata"),
        ("fd00:ec2::254", "metadata"),
        ("100.100.100.200", "metadata"),
        ("168.63.129.16", "metadata"),
        ("192.0.0.192", "metadata"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("0.0.0.0", "no host's"),
        ("::", "no host's"),
        ("255.255.255.255", "no host's"),
    ],
)
def test_what_hands_out_a_machines_credentials_is_no_site_in_whatever_form_it_is_written(
    address: str, reason: str
) -> None:
    assert reason in why_forbidden(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "::1",
        "10.0.0.5",
        "192.168.1.2",
        "2130706433",
        "fd12::1",
        "203.0.113.7",
        "2001:db8::1",
    ],
)
def test_loopback_private_and_public_addresses_are(address: str) -> None:
    assert why_forbidden(address) == ""


@pytest.mark.parametrize(
    "text", ["", "chat.example.com", "169.254", "1.2.3.4.5", "cafe", "0x", "face.de"]
)
def test_what_is_no_address_is_not_judged(text: str) -> None:
    assert why_forbidden(text) == ""
