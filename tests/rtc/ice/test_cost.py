"""What a connected agent that has nothing to do costs a server with thousands of them."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

from rtc import stun
from rtc.ice import IceAgent, IceCredentials, Path, host_candidate

SERVER = ("10.0.0.2", 8443)
IDLE_AGENT_BYTES = 20_000


def connected_agent(number: int) -> IceAgent:
    """A server's agent whose client has five candidates, two of them hidden."""
    agent = IceAgent(controlling=False, credentials=IceCredentials.generate())
    agent.add_local(host_candidate(*SERVER))
    agent.add_local(host_candidate(*SERVER, transport="tcp", tcptype="passive"))
    remote = IceCredentials.generate()
    client = (f"10.1.{number >> 8}.{number & 255}", 50000)
    now_ns = 10**12
    agent.set_remote(remote, now_ns)
    for host in (client[0], "192.168.1.5", "2001:db8::7", "8f1a.local", "9f1a.local"):
        line = f"842163049 1 udp 2113937151 {host} 50000 typ host generation 0 network-cost 999"
        agent.add_remote_candidate(line, now_ns)
    path = Path("udp", SERVER, client)
    request = stun.binding_request(
        stun.new_transaction_id(),
        username=f"{agent.credentials.ufrag}:{remote.ufrag}".encode(),
        key=agent.credentials.password.encode(),
        priority=1845501695,
        tie_breaker=bytes(8),
        controlling=True,
        use_candidate=True,
    )
    agent.receive(request, path, now_ns)
    for _ in range(3):
        now_ns = agent.tick(now_ns + 60_000_000)
        for out_path, datagram in agent.take_outgoing():
            message = stun.parse_message(datagram)
            if message.kind == stun.BINDING_REQUEST and out_path == path:
                response = stun.binding_success(
                    message.transaction_id, mapped=SERVER, key=remote.password.encode()
                )
                agent.receive(response, path, now_ns)
        agent.take_events()
    assert agent.selected == path
    assert agent._exchange.current.checklist.idle  # so that no pair is looked at any more
    return agent


def test_a_connected_agent_takes_less_than_twenty_kilobytes() -> None:
    kept: list[Any] = [connected_agent(0)]  # caches of the first use are not counted
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept += [connected_agent(number) for number in range(1, 101)]
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / 100 < IDLE_AGENT_BYTES
    assert len(kept) == 101


def test_dropped_agents_leave_nothing_to_the_garbage_collector() -> None:
    """Peers come and go by the thousand: no reference cycles."""
    connected_agent(0)
    gc.collect()
    gc.disable()
    try:
        for number in range(10):
            connected_agent(number)
        assert gc.collect() == 0
    finally:
        gc.enable()
