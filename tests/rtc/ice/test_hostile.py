"""What strangers and broken peers send: no reply, no binding, no exception, no growth."""

from __future__ import annotations

import random
from typing import Any

import pytest

from rtc import stun
from rtc.ice import FAR_FUTURE_NS, IceAgent, IceCredentials, Path, PathValidated, host_candidate

CLIENT = ("10.0.0.1", 1000)
SERVER = ("10.0.0.2", 2000)
STRANGER = Path("udp", SERVER, ("203.0.113.66", 6666))


@pytest.fixture
def ends(network: Any) -> tuple[Any, Any]:
    client, server = network.pair()
    network.introduce(client, server)
    network.run_until(lambda: client.agent.selected and server.agent.selected)
    network.run(1)
    return client, server


def check(host: Any, *, ufrag: str | None = None, key: str | None = None, **extra: Any) -> bytes:
    ours = host.agent.credentials
    return stun.binding_request(
        stun.new_transaction_id(),
        username=f"{ours.ufrag if ufrag is None else ufrag}:whoever".encode(),
        key=(ours.password if key is None else key).encode(),
        priority=1,
        tie_breaker=bytes(8),
        controlling=not host.agent.controlling,
        **extra,
    )


@pytest.mark.parametrize(
    "wrong", [{"ufrag": "someone-else-000"}, {"ufrag": ""}, {"key": "guessed"}, {"key": ""}]
)
def test_a_request_with_wrong_credentials_gets_no_reply_and_binds_nothing(
    network: Any, ends: tuple[Any, Any], wrong: dict[str, str]
) -> None:
    _, server = ends
    sent, events = len(server.sent), len(server.events)
    network.inject(server, STRANGER, check(server, use_candidate=True, **wrong))
    assert len(server.sent) == sent
    assert len(server.events) == events
    assert server.agent.refused_requests == 1
    assert len(server.agent.pairs()) == 1


def test_a_request_without_integrity_gets_no_reply(network: Any, ends: tuple[Any, Any]) -> None:
    _, server = ends
    sent = len(server.sent)
    network.inject(server, STRANGER, stun.server_request(stun.new_transaction_id()))
    assert len(server.sent) == sent
    assert server.agent.refused_requests == 1


def test_a_valid_request_gets_exactly_one_reply(network: Any, ends: tuple[Any, Any]) -> None:
    _, server = ends
    sent = len(server.sent)
    server_path = Path("udp", SERVER, CLIENT)
    network.inject(server, server_path, check(server))
    assert [path for _, path, _ in server.sent[sent:]] == [server_path]


def test_a_repeated_request_gets_a_reply_each_and_its_path_is_told_once(
    network: Any, ends: tuple[Any, Any]
) -> None:
    _, server = ends
    request = check(server)
    for _ in range(5):
        network.inject(server, STRANGER, request)
    replies = [d for _, path, d in server.sent if path == STRANGER]
    kinds = [stun.parse_message(datagram).kind for datagram in replies]
    assert kinds.count(stun.BINDING_SUCCESS) == 5
    assert kinds.count(stun.BINDING_REQUEST) == 1
    assert server.of(PathValidated).count(PathValidated(STRANGER)) == 1


def test_an_attribute_that_must_be_understood_is_refused_with_420(
    network: Any, ends: tuple[Any, Any]
) -> None:
    _, server = ends
    ours = server.agent.credentials
    attributes = b"\x00\x06" + (len(ours.ufrag) + 2).to_bytes(2, "big") + f"{ours.ufrag}:x".encode()
    attributes += bytes(-(len(ours.ufrag) + 2) & 3) + b"\x7f\x01\x00\x00"
    request = stun._sealed(
        stun.BINDING_REQUEST, stun.new_transaction_id(), attributes, ours.password.encode()
    )
    network.inject(server, STRANGER, request)
    error = stun.parse_message(server.sent[-1][2])
    assert error.error_code == 420
    assert len(server.agent.pairs()) == 1


def test_a_request_without_a_priority_is_refused_with_400(
    network: Any, ends: tuple[Any, Any]
) -> None:
    _, server = ends
    ours = server.agent.credentials
    name = f"{ours.ufrag}:xyz".encode()
    attributes = b"\x00\x06" + len(name).to_bytes(2, "big") + name
    request = stun._sealed(
        stun.BINDING_REQUEST, stun.new_transaction_id(), attributes, ours.password.encode()
    )
    network.inject(server, STRANGER, request)
    assert stun.parse_message(server.sent[-1][2]).error_code == 400
    assert len(server.agent.pairs()) == 1


@pytest.fixture
def waiting(network: Any) -> tuple[Any, Path, stun.StunMessage]:
    """An agent with one check on its way, the path, and the check."""
    client, server = network.pair()
    network.blocks = lambda transport, source, to: True
    network.tell(client, server)
    _, path, datagram = client.sent[0]
    return client, path, stun.parse_message(datagram)


def response(host: Any, request: stun.StunMessage, **changes: Any) -> bytes:
    values: dict[str, Any] = {
        "mapped": CLIENT,
        "key": host.agent.remote_credentials.password.encode(),
    }
    identity = changes.pop("identity", request.transaction_id)
    return stun.binding_success(identity, **{**values, **changes})


def test_the_right_response_makes_the_pair_valid(
    network: Any, waiting: tuple[Any, Path, stun.StunMessage]
) -> None:
    client, path, request = waiting
    network.inject(client, path, response(client, request))
    assert client.of(PathValidated) == [PathValidated(path)]


@pytest.mark.parametrize(
    "forgery",
    [{"identity": bytes(12)}, {"key": b"guessed"}, {"key": None}],
    ids=["transaction", "password", "no integrity"],
)
def test_a_forged_response_is_ignored(
    network: Any, waiting: tuple[Any, Path, stun.StunMessage], forgery: dict[str, Any]
) -> None:
    client, path, request = waiting
    network.inject(client, path, response(client, request, **forgery))
    assert client.events == []
    assert client.agent.ignored_messages == 1
    network.inject(client, path, response(client, request))  # the true one still counts
    assert len(client.of(PathValidated)) == 1


@pytest.mark.parametrize(
    "other",
    [
        Path("udp", CLIENT, ("10.0.0.3", 2000)),
        Path("udp", CLIENT, ("10.0.0.2", 2001)),
        Path("udp", ("10.0.0.1", 1001), SERVER),
        Path("tcp", CLIENT, SERVER),
    ],
)
def test_a_response_over_another_path_is_ignored(
    network: Any, waiting: tuple[Any, Path, stun.StunMessage], other: Path
) -> None:
    client, _, request = waiting
    network.inject(client, other, response(client, request))
    assert client.events == []
    assert client.agent.ignored_messages == 1


def test_a_response_counts_once(network: Any, waiting: tuple[Any, Path, stun.StunMessage]) -> None:
    client, path, request = waiting
    for _ in range(3):
        network.inject(client, path, response(client, request))
    assert client.agent.ignored_messages == 2
    assert len(client.of(PathValidated)) == 1


def test_an_error_without_integrity_does_not_end_a_check(
    network: Any, waiting: tuple[Any, Path, stun.StunMessage]
) -> None:
    client, path, request = waiting
    for code in (400, 487):
        error = stun.binding_error(request.transaction_id, code=code, key=None)
        network.inject(client, path, error)
    assert client.agent.controlling
    network.inject(client, path, response(client, request))
    assert len(client.of(PathValidated)) == 1


def test_an_authentic_error_ends_the_check_and_is_kept_as_the_reason(
    network: Any, waiting: tuple[Any, Path, stun.StunMessage]
) -> None:
    client, path, request = waiting
    key = client.agent.remote_credentials.password.encode()
    network.inject(client, path, stun.binding_error(request.transaction_id, code=500, key=key))
    assert [pair.reason for pair in client.agent.pairs()] == ["refused with 500"]


def test_indications_are_taken_for_what_they_are(network: Any, ends: tuple[Any, Any]) -> None:
    """Some peers keep their NAT open with them (RFC 8445 section 11)."""
    _, server = ends
    sent = len(server.sent)
    indication = stun._sealed(stun.BINDING_INDICATION, bytes(12), b"", None)
    network.inject(server, Path("udp", SERVER, CLIENT), indication)
    assert len(server.sent) == sent
    assert server.agent.ignored_messages == 0


def test_a_thousand_junk_datagrams_do_no_harm(network: Any, ends: tuple[Any, Any]) -> None:
    _, server = ends
    randomness = random.Random(1)
    template = check(server)
    sent = len(server.sent)
    for number in range(1000):
        path = Path("udp", SERVER, ("198.51.100.9", 1024 + number))
        if number % 2:
            junk = randomness.randbytes(randomness.randint(0, 200))
        else:
            data = bytearray(template)
            for _ in range(3):
                data[randomness.randrange(len(data))] ^= 1 << randomness.randrange(8)
            junk = bytes(data)
        network.inject(server, path, junk)
    assert len(server.sent) == sent
    assert len(server.agent.pairs()) == 1
    assert server.agent.ignored_messages + server.agent.refused_requests == 1000
    network.run(30)
    assert server.agent.selected is not None
    assert server.kinds() == ["Selected"]


def test_a_long_random_life_breaks_no_rule(network: Any) -> None:
    """Loss, outages, restarts, flows cut, probes in any order; then peace, and all is well."""
    for seed in range(12):
        dice = random.Random(seed)
        network.__init__()
        client, server = network.pair(controlled_too=seed % 3 > 0)
        client.udp("2001:db8::1", 1000).tcp_active("10.0.0.1").tcp_active("2001:db8::1")
        server.udp("2001:db8::2", 2000).tcp_listener("10.0.0.2", 2000)
        server.tcp_listener("2001:db8::2", 2000)
        network.introduce(client, server)
        for _ in range(60):
            match dice.randrange(6):
                case 0:
                    network.loses = lambda dice=dice: dice.random() < 0.4
                case 1:
                    network.blocks = lambda transport, source, to: transport == "udp"
                case 2:
                    network.cut_flows()
                case 3:
                    client.agent.probe(network.now_ns)
                case 4:
                    for host in (client, server):
                        host.agent.restart(IceCredentials.generate(), network.now_ns)
                    network.introduce(client, server)
                case _:
                    network.loses = lambda: False
                    network.blocks = lambda transport, source, to: False
            network.run(dice.choice([0.01, 0.3, 2.0, 7.0]))
            for host in (client, server):
                assert len(host.agent.pairs()) <= 100
        network.loses = lambda: False
        network.blocks = lambda transport, source, to: False
        if client.agent.failed or server.agent.failed:
            for host in (client, server):
                host.agent.restart(IceCredentials.generate(), network.now_ns)
            network.introduce(client, server)
        sent, changes = len(client.sent) + len(server.sent), len(client.events)
        network.run(40)
        assert len(client.sent) + len(server.sent) - sent < 250, seed
        assert len(client.events) - changes < 25, seed
        assert client.agent.selected is not None, seed
        assert server.agent.selected is not None, seed
        assert client.agent.selected.transport == server.agent.selected.transport, seed


def test_an_agent_that_hears_nothing_holds_no_more_than_it_was_told() -> None:
    agent = IceAgent(controlling=False, credentials=IceCredentials.generate())
    assert agent.due_ns == FAR_FUTURE_NS
    agent.add_local(host_candidate(*SERVER))
    for number in range(1000):
        agent.receive(b"\x00\x01" + bytes(30), STRANGER, number)
    assert agent.take_outgoing() == ()
    assert agent.take_events() == ()
    assert agent.tick(10**12) > 10**15
