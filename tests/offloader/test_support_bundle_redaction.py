from __future__ import annotations

import pytest

from offloader.support_bundle_redaction import Redactor, passwords_in, secret_values

ID = "abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Authorization: Bearer abc.def-123", "Authorization: *** ***"),
        ("authorization=Basic dXNlcjpwYXNz=", "authorization=*** ***"),
        ("at https://user:pw@host/x", "at https://***@host/x"),
        ('{"auth_token": "abc"}', '{"auth_token": "***"}'),
        (r'"{\"auth_token\": \"abc\"}"', r'"{\"auth_token\": \"***\"}"'),
        ("DB_PASSWORD=abc next", "DB_PASSWORD=*** next"),
        ("to /hooks/abc123", "to /hooks/***"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "***"),
        ("key ABCdef0123456789ABCdef0123456789xy", "key ***"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----\nnext", "***\nnext"),
        ("MIIabc+/=\nabc\n-----END PRIVATE KEY-----\nnext", "\n***\nnext"),
        (r"MIIabc\nabc==\n-----END PRIVATE KEY----- next", "\n*** next"),
        ("postgresql://user:p@ss@db/x", "postgresql://***@db/x"),
        ("postgresql://user:p/ss?@db/x", "postgresql://***@db/x"),
        ("amqp://u:one@a:1//;amqp://u:two@b:2//", "amqp://***@a:1//;amqp://***@b:2//"),
        ("https://chat.example.com:8065/x, mail a@b", "https://chat.example.com:8065/x, mail a@b"),
        ("password='two words, or; more' user=u", "password='***' user=u"),
        (r'{"password": "a \" quote"}', '{"password": "***"}'),
        (r'"{\"token\": \"a \\\" b\", \"c\": 1}"', r'"{\"token\": \"***\", \"c\": 1}"'),
        ("{'token': b'abc'}", "{'token': b'***'}"),
        ("X-Api-Key: abc", "X-Api-Key: ***"),
        ("AccountKey=abc==;pwd=abc;passphrase: abc", "AccountKey=***;pwd=***;passphrase: ***"),
        ("?X-Amz-Signature=abc&x=1&sig=abc", "?X-Amz-Signature=***&x=1&sig=***"),
        ("Cookie: a=one; b=two", "Cookie: ***"),
        ("OTEL_EXPORTER_OTLP_HEADERS=x-team=one,y-team=two", "OTEL_EXPORTER_OTLP_HEADERS=***"),
        ("AKIAIOSFODNN7EXAMPLE glpat-abcdefghij12345", "*** ***"),
        ("https://hooks.slack.com/services/T0/B0/abc", "https://hooks.slack.com/services/***"),
        ("\x1b[36mpassword\x1b[0m=\x1b[35mabc\x1b[0m", "password=***"),
        ("PWD=/root", "PWD=***"),
        ("sha256:" + "0123abcd" * 8, "sha256:" + "0123abcd" * 8),
        ("jobs.process.stop_grace_s = 300", "jobs.process.stop_grace_s = 300"),
        (
            "/usr/lib/python3.11/asyncio/base_events.py",
            "/usr/lib/python3.11/asyncio/base_events.py",
        ),
    ],
)
def test_what_looks_secret_is_masked_and_the_rest_stays(text: str, clean: str) -> None:
    assert Redactor([]).text(text) == clean


def test_known_values_are_masked_wherever_and_however_they_stand() -> None:
    redactor = Redactor(["p@ss word/1", "short", "p@ss word/1 and more"])
    assert redactor.text("p@ss word/1 and more, p%40ss%20word%2F1") == "***, ***"
    assert redactor.text("short") == "short"  # too short to be looked for everywhere


def test_ids_keep_their_identity_within_one_bundle() -> None:
    first, second = Redactor([]), Redactor([], harmless=[ID])
    text = first.text(f"{ID} {ID} {ID[::-1]}")
    one, same, other = text.split()
    assert one == same != other
    assert one.startswith("id-")
    assert Redactor([]).text(ID) != one
    assert second.text(ID) == ID


def test_documents_keep_their_form() -> None:
    document = {
        "auth_token": "abc",
        "tokens": 5,
        "empty_secret": "",
        "list": [1, {"password": "x"}],
        "passwords": ["x", "y", 1],
    }
    assert Redactor([]).document(document) == {
        "auth_token": "***",
        "tokens": 5,
        "empty_secret": "",
        "list": [1, {"password": "***"}],
        "passwords": ["***", "***", 1],
    }


def test_a_key_over_several_lines_of_a_list_is_seen() -> None:
    lines = ["a", "-----BEGIN PRIVATE KEY-----", "abc", "-----END PRIVATE KEY-----", "b"]
    assert Redactor([]).document({"last_log_lines": lines}) == {"last_log_lines": ["a", "***", "b"]}


def test_secrets_of_an_environment_are_found_by_name_and_in_urls() -> None:
    found = secret_values(
        {"API_KEY": "one", "HOME": "/root", "PROXY": "http://u:p%40w@h", "URL": "http://h"}
    )
    assert found == {"one", "p%40w", "p@w"}
    assert passwords_in("http://[broken") == set()


def test_passwords_of_all_nodes_of_headers_and_of_queries_are_known() -> None:
    found = secret_values(
        {
            "BROKER": "amqp://u:one@a:5672//;amqp://u:two@b:5672//",
            "DATABASE": "postgresql://db/x?user=u&password=three",
            "OTHER": "postgresql://u:fo/ur@db/x",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-team=five,authorization=Basic%20six",
            "PWD": "/root",
        }
    )
    assert {"one", "two", "three", "fo/ur", "five", "Basic six"} <= found
    assert "/root" not in found


@pytest.mark.parametrize("text", ["a ", "token", "otlp_", "://", "eyJaaaaaaaa-", "password='"])
@pytest.mark.timeout(20)
def test_no_log_makes_it_slow(text: str) -> None:
    """One line as long as a job's log, in which each place begins something; else it is minutes."""
    Redactor([]).text(text * (128 * 1024 // len(text)))
