"""How servers are named."""

from __future__ import annotations

import pytest

from rtc.turn.servers import ServerUrl, ServerUrlError, read_servers, stun_urls, turn_urls


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stun:stun.example.org", ServerUrl(False, "stun.example.org", 3478, "udp")),
        ("turn:192.0.2.1:80", ServerUrl(True, "192.0.2.1", 80, "udp")),
        ("turn:t.example.org?transport=tcp", ServerUrl(True, "t.example.org", 3478, "tcp")),
        ("turns:t.example.org:443?transport=tcp", ServerUrl(True, "t.example.org", 443, "tls")),
        ("turns:[2001:db8::1]", ServerUrl(True, "2001:db8::1", 5349, "tls")),
    ],
)
def test_urls_are_read(text: str, expected: ServerUrl) -> None:
    assert ServerUrl.parse(text) == expected


@pytest.mark.documents(
    "an-ice-server-that-jobs-cannot-use",
    "an-ice-server-that-jobs-cannot-use/2",
    "an-ice-server-that-jobs-cannot-use/3",
)
def test_what_is_wrong_with_a_url_is_told(documented) -> None:
    for number, url in (
        ("", "http://turn.example.com"),
        ("/2", "turns:turn.example.com?transport=udp"),
        ("/3", "turn:turn.example.com:0"),
    ):
        with pytest.raises(ServerUrlError) as refused:
            ServerUrl.parse(url)
        documented(f"an-ice-server-that-jobs-cannot-use{number}", str(refused.value))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://x",
        "turn:",
        "turn:x:0",
        "turn:x:70000",
        "turns:x?transport=udp",
        "turn://x",
        "turn:a..b",
        f"turn:{64 * 'a'}",
    ],
)
def test_other_urls_are_refused_with_the_url(text: str) -> None:
    with pytest.raises(ServerUrlError, match="ICE server URL"):
        ServerUrl.parse(text)


def test_one_bad_url_does_not_cost_the_others() -> None:
    servers, problems = read_servers(
        [
            {"urls": ["turn:a", "nonsense:b"], "username": "u", "credential": "c"},
            "stun:c",
            {"urls": "stun:d"},
            {"nothing": 1},
        ]
    )
    assert [str(url) for server in servers for url in server.urls] == [
        "turn a:3478 over UDP",
        "stun d:3478 over UDP",
    ]
    assert len(problems) == 2


@pytest.mark.parametrize("value", [None, {}, "x", 3])
def test_no_list_means_no_servers(value: object) -> None:
    assert read_servers(value) == ([], [])


def test_relays_are_tried_over_udp_tcp_and_tls_and_not_without_credentials() -> None:
    urls = ["turns:a", "turn:a?transport=tcp", "turn:a"]
    servers, _ = read_servers(
        [{"urls": urls, "username": "u", "credential": "c"}, {"urls": ["turn:b", "stun:s"]}]
    )
    assert [url.link for url, _ in turn_urls(servers)] == ["udp", "tcp", "tls"]
    assert [url.host for url in stun_urls(servers)] == ["s", "a", "b"]


def test_credentials_are_not_shown() -> None:
    servers, _ = read_servers([{"urls": "turn:a", "username": "u", "credential": "hush"}])
    assert "hush" not in repr(servers)
