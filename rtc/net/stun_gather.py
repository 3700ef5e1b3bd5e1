"""Server-reflexive addresses: how STUN servers see our sockets (RFC 8445 section 5.1.1.2). Sans-IO."""

from __future__ import annotations

from dataclasses import dataclass

from rtc import stun
from rtc.ice.candidate import Candidate, candidate_priority, foundation
from rtc.ice.path import Address
from rtc.ice.timings import FAR_FUTURE_NS

_RTO_NS = 500_000_000
_TRANSMISSIONS = 4
"""Given up after 7.5 s: a server that nobody reaches delays nothing, as candidates trickle."""
_MAX_QUESTIONS = 64


@dataclass(slots=True)
class _Question:
    local: Address
    server: Address
    request: bytes
    due_ns: int
    rto_ns: int
    transmissions: int


class StunGatherer:
    """Asks servers from sockets; each answer is a candidate once per socket and address."""

    def __init__(self) -> None:
        self._questions: dict[bytes, _Question] = {}
        self._known: set[tuple[Address, Address]] = set()
        self._outgoing: list[tuple[Address, Address, bytes]] = []
        self.unanswered: list[Address] = []
        """Servers that did not answer in time, one entry for each socket that asked."""

    @property
    def due_ns(self) -> int:
        """When `tick` wants to be called, monotonic ns."""
        return min((q.due_ns for q in self._questions.values()), default=FAR_FUTURE_NS)

    def ask(self, local: Address, server: Address, now_ns: int) -> None:
        """Ask `server` from the socket bound to `local`; both of one family. 64 questions at most."""
        if len(self._questions) >= _MAX_QUESTIONS:
            return
        transaction_id = stun.new_transaction_id()
        request = stun.server_request(transaction_id)
        self._questions[transaction_id] = _Question(
            local, server, request, now_ns + _RTO_NS, _RTO_NS, 1
        )
        self._outgoing.append((local, server, request))

    def take_outgoing(self) -> list[tuple[Address, Address, bytes]]:
        """`(local, server, datagram)`, each handed out once."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing

    def expects(self, datagram: bytes) -> bool:
        """Is this STUN datagram an answer to one of our questions?"""
        return bool(self._questions) and datagram[8:20] in self._questions

    def receive(self, datagram: bytes, local: Address, source: Address) -> Candidate | None:
        """Take an answer; a candidate if it tells an address that is not known yet."""
        question = self._questions.get(datagram[8:20])
        if question is None or (question.local, question.server) != (local, source):
            return None
        try:
            message = stun.parse_message(datagram)
        except stun.StunError:
            return None
        del self._questions[datagram[8:20]]
        mapped = message.mapped
        if mapped is None or mapped == local or (local, mapped) in self._known:
            return None
        self._known.add((local, mapped))
        return Candidate(
            foundation=foundation("srflx", "udp", local[0], source[0]),
            component=1,
            transport="udp",
            priority=candidate_priority("srflx", preference=max(0, 65535 - len(self._known))),
            host=mapped[0],
            port=mapped[1],
            type="srflx",
            related=local,
        )

    def tick(self, now_ns: int) -> None:
        """Repeat and give up what is due."""
        for transaction_id, question in list(self._questions.items()):
            if question.due_ns > now_ns:
                continue
            if question.transmissions >= _TRANSMISSIONS:
                del self._questions[transaction_id]
                self.unanswered.append(question.server)
                continue
            question.transmissions += 1
            question.rto_ns *= 2
            question.due_ns = now_ns + question.rto_ns
            self._outgoing.append((question.local, question.server, question.request))

    def stop(self) -> None:
        self._questions.clear()
        self._outgoing.clear()
