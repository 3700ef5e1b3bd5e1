"""Which pair carries media when the other side nominates as browsers do, and when roles are in conflict."""

from __future__ import annotations

from typing import Any

import pytest

from rtc import stun
from rtc.ice import IceCredentials, Path, PathReleased, Selected

SERVER = ("10.0.0.2", 2000)
GOOD = ("10.0.0.1", 1000)
POOR = ("10.0.0.1", 1001)
GOOD_PATH = Path("udp", SERVER, GOOD)
POOR_PATH = Path("udp", SERVER, POOR)


class Browser:
    """A peer played by the test: answers checks, and nominates what and when the test says."""

    def __init__(self, network: Any, server: Any) -> None:
        self.network = network
        self.server = server
        self.credentials = IceCredentials("remote-ufrag", "remote-password-of-22+")
        self.answered = 0
        self.tie_breaker = bytes(8)
        server.agent.set_remote(self.credentials, network.now_ns)
        for port, priority in ((1000, 2130706431), (1001, 1694498815)):
            line = f"1 1 udp {priority} 10.0.0.1 {port} typ host"
            server.agent.add_remote_candidate(line, network.now_ns)
        self.answer()

    def check(self, path: Path, *, nominate: bool = False, controlling: bool = True) -> None:
        ours = self.server.agent.credentials
        request = stun.binding_request(
            stun.new_transaction_id(),
            username=f"{ours.ufrag}:{self.credentials.ufrag}".encode(),
            key=ours.password.encode(),
            priority=1845494271,
            tie_breaker=self.tie_breaker,
            controlling=controlling,
            use_candidate=nominate,
        )
        self.server.agent.receive(request, path, self.network.now_ns)
        self.answer()

    def answer(self) -> None:
        """Answer every check that has been sent since the last call."""
        self.network.flush()
        while self.answered < len(self.server.sent):
            _, path, datagram = self.server.sent[self.answered]
            self.answered += 1
            message = stun.parse_message(datagram)
            if message.kind == stun.BINDING_REQUEST:
                response = stun.binding_success(
                    message.transaction_id,
                    mapped=path.local,
                    key=self.credentials.password.encode(),
                )
                self.network.inject(self.server, path, response)

    def run(self, seconds: float) -> None:
        """Let time pass, answering."""
        for _ in range(round(seconds / 0.05)):
            self.network.run(0.05)
            self.answer()


@pytest.fixture
def server(network: Any) -> Any:
    return network.host("server", controlling=False).udp(*SERVER)


@pytest.fixture
def browser(network: Any, server: Any) -> Browser:
    peer = Browser(network, server)
    peer.run(0.2)  # all pairs are valid now
    return peer


def test_without_a_nomination_nothing_is_selected(server: Any, browser: Browser) -> None:
    browser.check(GOOD_PATH)
    browser.run(5)
    assert server.agent.selected is None


def test_a_nomination_of_a_valid_pair_counts_at_once(server: Any, browser: Browser) -> None:
    browser.check(POOR_PATH, nominate=True)
    assert server.agent.selected == POOR_PATH


def test_a_nomination_counts_when_our_own_check_succeeds(network: Any, server: Any) -> None:
    browser = Browser(network, server)
    unknown = Path("udp", SERVER, ("10.0.0.1", 1002))
    browser.check(unknown)
    server.sent.clear()
    browser.answered = 0
    other = Path("udp", SERVER, ("10.0.0.1", 1003))
    network.run(0.01)
    ours = server.agent.credentials
    request = stun.binding_request(
        stun.new_transaction_id(),
        username=f"{ours.ufrag}:{browser.credentials.ufrag}".encode(),
        key=ours.password.encode(),
        priority=1,
        tie_breaker=bytes(8),
        controlling=True,
        use_candidate=True,
    )
    server.agent.receive(request, other, network.now_ns)
    assert server.agent.selected is None
    browser.run(0.5)
    assert server.agent.selected == other


def test_an_aggressive_nominator_ends_on_the_pair_of_highest_priority(
    server: Any, browser: Browser
) -> None:
    for path in (POOR_PATH, GOOD_PATH, POOR_PATH, GOOD_PATH, POOR_PATH):
        browser.check(path, nominate=True)
        browser.run(0.1)
    assert server.agent.selected == GOOD_PATH
    assert [event.path for event in server.of(Selected)] == [POOR_PATH, GOOD_PATH]


def test_a_later_nomination_of_a_better_pair_switches(server: Any, browser: Browser) -> None:
    browser.check(POOR_PATH, nominate=True)
    browser.run(20)
    browser.check(GOOD_PATH, nominate=True)
    assert server.agent.selected == GOOD_PATH


def test_a_nominator_that_has_left_the_better_pair_is_followed_to_the_other(
    server: Any, browser: Browser
) -> None:
    """A browser whose UDP died nominates TCP and stops nominating UDP."""
    browser.check(GOOD_PATH, nominate=True)
    browser.run(2.5)
    browser.check(POOR_PATH, nominate=True)
    assert server.agent.selected == POOR_PATH


def test_a_nominator_that_stays_with_the_better_pair_is_not_led_astray_by_its_spare_checks(
    server: Any, browser: Browser
) -> None:
    for _ in range(20):
        browser.check(GOOD_PATH, nominate=True)
        browser.run(1.0)
        browser.check(POOR_PATH, nominate=True)
        browser.run(0.9)
    assert server.agent.selected == GOOD_PATH


def test_a_pair_that_was_valid_long_ago_is_checked_before_it_is_selected(
    network: Any, server: Any, browser: Browser
) -> None:
    browser.check(GOOD_PATH, nominate=True)
    browser.run(31)
    server.sent.clear()
    browser.answered = 0
    ours = server.agent.credentials
    request = stun.binding_request(
        stun.new_transaction_id(),
        username=f"{ours.ufrag}:x".encode(),
        key=ours.password.encode(),
        priority=1,
        tie_breaker=bytes(8),
        controlling=True,
        use_candidate=True,
    )
    server.agent.receive(request, POOR_PATH, network.now_ns)
    assert server.agent.selected == GOOD_PATH
    browser.run(0.2)
    assert server.agent.selected == POOR_PATH


def test_a_nat_that_changed_the_address_is_followed(server: Any, browser: Browser) -> None:
    browser.check(GOOD_PATH, nominate=True)
    browser.run(5)
    moved = Path("udp", SERVER, ("198.51.100.1", 44444))
    browser.check(moved, nominate=True)
    assert server.agent.selected == moved


def test_paths_of_an_authenticated_flood_of_addresses_are_released_again(
    server: Any, browser: Browser
) -> None:
    browser.check(GOOD_PATH, nominate=True)
    for port in range(20000, 20150):
        browser.check(Path("udp", SERVER, ("198.51.100.1", port)))
    assert len(server.agent.pairs()) == 100
    assert len(server.of(PathReleased)) >= 50
    assert server.agent.selected == GOOD_PATH


# roles


def test_with_the_smaller_tie_breaker_the_other_side_is_refused_with_487(
    server: Any, browser: Browser
) -> None:
    """RFC 8445 section 7.3.1.1: controlled here, controlled there, and ours is smaller."""
    browser.tie_breaker = b"\xff" * 8
    browser.check(GOOD_PATH, controlling=False)
    error = stun.parse_message(server.sent[-1][2])
    assert (error.kind, error.error_code) == (stun.BINDING_ERROR, stun.ROLE_CONFLICT)
    assert error.integrity_holds(server.agent.credentials.password.encode())
    assert not server.agent.controlling


def test_with_the_larger_tie_breaker_we_take_the_controlling_role(
    server: Any, browser: Browser
) -> None:
    browser.check(GOOD_PATH, controlling=False)
    assert server.agent.controlling
    browser.run(1)
    assert server.agent.selected == GOOD_PATH


def role_conflict(browser: Browser, server: Any) -> bytes:
    """The refusal of the newest check."""
    requests = [
        (path, message)
        for _, path, datagram in server.sent
        if (message := stun.parse_message(datagram)).kind == stun.BINDING_REQUEST
    ]
    path, message = requests[-1]
    response = stun.binding_error(
        message.transaction_id,
        code=stun.ROLE_CONFLICT,
        key=browser.credentials.password.encode(),
    )
    browser.answered = len(server.sent)
    browser.network.inject(server, path, response)
    return response


def test_a_refusal_with_487_switches_the_role_and_the_check_is_made_again(
    network: Any, server: Any
) -> None:
    """Not to do so drops calls (rtcd.md 3.12)."""
    browser = Browser(network, server)
    browser.answered = len(server.sent)
    path = Path("udp", SERVER, ("10.0.0.1", 1009))
    browser.answer = lambda: None
    browser.check(path)
    network.run(0.05)
    role_conflict(browser, server)
    assert server.agent.controlling
    network.run(0.2)
    again = stun.parse_message(server.sent[-1][2])
    assert again.controlling is not None
    assert again.controlled is None


def test_a_peer_that_always_refuses_the_role_does_not_keep_us_spinning(
    network: Any, server: Any
) -> None:
    browser = Browser(network, server)
    browser.answer = lambda: None
    for _ in range(400):
        network.run(0.05)
        role_conflict(browser, server)
    assert len(server.sent) <= 400 + 20


def test_consent_that_is_refused_with_487_switches_the_role(network: Any) -> None:
    client, server = network.pair()
    network.introduce(client, server)
    network.run(1)
    key = server.agent.credentials.password.encode()
    network.blocks = lambda transport, source, to: True
    sent = len(client.sent)
    network.run_until(lambda: len(client.sent) > sent)
    _, path, datagram = client.sent[-1]
    error = stun.binding_error(datagram[8:20], code=stun.ROLE_CONFLICT, key=key)
    network.inject(client, path, error)
    assert not client.agent.controlling
    network.inject(client, path, error)  # that request is done with
    assert not client.agent.controlling
    assert client.agent.ignored_messages == 1


def test_a_role_conflict_in_mid_call_does_not_end_it(network: Any) -> None:
    client, server = network.pair(controlled_too=False)
    client.agent._sender._tie_breaker = b"\xff" * 8
    network.introduce(client, server)
    network.run(40)
    assert client.agent.controlling is not server.agent.controlling
    assert client.kinds() == server.kinds() == ["Selected"]
