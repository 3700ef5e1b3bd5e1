"""A controlled peer that keeps its pair unless a better one is nominated, as pion does."""

from __future__ import annotations

import pytest

from rtc import stun
from rtc.ice import IceAgent, IceCredentials, Path
from rtc.ice.candidate import host_candidate
from rtc.ice.selection import Selection
from testbed.rtcd_double.peering import PionSelection

SERVER = ("10.0.0.2", 2000)
GOOD = Path("udp", SERVER, ("10.0.0.1", 1000))
POOR = Path("udp", SERVER, ("10.0.0.1", 1001))
MS = 1_000_000


class Client:
    """Nominates what the test says; answers every check of the agent until it is `dead`."""

    def __init__(self, selection: type[Selection]) -> None:
        self.now_ns = 1000
        self.dead: set[Path] = set()
        self.credentials = IceCredentials("client-ufrag-0123", "client-password-of-22+")
        self.agent = IceAgent(
            controlling=False, credentials=IceCredentials.generate(), selection=selection
        )
        self.agent.add_local(host_candidate(*SERVER))
        self.agent.set_remote(self.credentials, self.now_ns)
        for port, priority in ((1000, 2130706431), (1001, 1694498815)):
            line = f"1 1 udp {priority} 10.0.0.1 {port} typ host"
            self.agent.add_remote_candidate(line, self.now_ns)
        self.run(1000)

    def nominate(self, path: Path) -> None:
        ours = self.agent.credentials
        request = stun.binding_request(
            stun.new_transaction_id(),
            username=f"{ours.ufrag}:{self.credentials.ufrag}".encode(),
            key=ours.password.encode(),
            priority=1845494271,
            tie_breaker=bytes(8),
            controlling=True,
            use_candidate=True,
        )
        self.agent.receive(request, path, self.now_ns)
        self.run(100)

    def run(self, milliseconds: int) -> None:
        for _ in range(milliseconds // 10):
            self.now_ns += 10 * MS
            self.agent.tick(self.now_ns)
            for path, datagram in self.agent.take_outgoing():
                message = stun.parse_message(datagram)
                if message.kind == stun.BINDING_REQUEST and path not in self.dead:
                    answer = stun.binding_success(
                        message.transaction_id,
                        mapped=path.local,
                        key=self.credentials.password.encode(),
                    )
                    self.agent.receive(answer, path, self.now_ns)


def test_a_better_pair_is_followed() -> None:
    client = Client(PionSelection)
    client.nominate(POOR)
    assert client.agent.selected == POOR
    client.nominate(GOOD)
    assert client.agent.selected == GOOD


@pytest.mark.parametrize(("selection", "follows"), [(PionSelection, False), (Selection, True)])
def test_a_worse_pair_is_not_followed_however_silent_the_present_one_is(
    selection: type[Selection], *, follows: bool
) -> None:
    client = Client(selection)
    client.nominate(GOOD)
    client.dead.add(GOOD)
    client.run(12_000)
    client.nominate(POOR)
    assert (client.agent.selected == POOR) is follows


def test_a_restart_moves_it() -> None:
    client = Client(PionSelection)
    client.nominate(GOOD)
    client.dead.add(GOOD)
    client.credentials = IceCredentials("client-ufrag-4567", "another-password-of-22")
    client.agent.restart(IceCredentials.generate(), client.now_ns)
    client.agent.set_remote(client.credentials, client.now_ns)
    client.agent.add_remote_candidate("1 1 udp 1 10.0.0.1 1001 typ host", client.now_ns)
    client.run(1000)
    client.nominate(POOR)
    assert client.agent.selected == POOR
