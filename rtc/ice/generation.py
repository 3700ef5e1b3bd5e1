"""What an ICE restart replaces: credentials, remote candidates and pairs (RFC 8445 section 2.4)."""

from __future__ import annotations

from rtc import stun
from rtc.ice.candidate import Candidate, candidate_priority
from rtc.ice.checklist import Base, Checklist
from rtc.ice.credentials import MIN_OWN_UFRAG_LENGTH, IceCredentials
from rtc.ice.pair import Pair
from rtc.ice.path import Path
from rtc.ice.timings import FAR_FUTURE_NS


class Generation:
    """One pair of credentials and everything learned under it."""

    __slots__ = (
        "_username",
        "candidates",
        "checklist",
        "deadline_ns",
        "first_valid_ns",
        "local",
        "local_key",
        "number",
        "remote",
        "remote_key",
        "role_switches",
        "tcp_ns",
    )

    def __init__(self, local: IceCredentials, *, number: int = 0) -> None:
        """Raises ValueError when our ufrag is too short to be told apart on a shared port."""
        if len(local.ufrag) < MIN_OWN_UFRAG_LENGTH:
            raise ValueError(
                f"ICE ufrag has {len(local.ufrag)} characters, wanted {MIN_OWN_UFRAG_LENGTH} or more"
            )
        self.number = number
        """Counts restarts: the TCP flows of two generations must not share a name. A server may tell flows
        apart by the ufrag of their first message, so that no flow outlives a restart."""
        self.local = local
        self.local_key = local.password.encode()
        self.remote: IceCredentials | None = None
        self.remote_key = b""
        self._username = b""
        self.candidates: list[Candidate] = []
        """Of the other side, as signalled; bounded."""
        self.checklist = Checklist()
        self.deadline_ns = FAR_FUTURE_NS
        self.first_valid_ns = 0
        self.tcp_ns = 0
        """When TCP flows may be opened though UDP has not failed."""
        self.role_switches = 0

    def set_remote(self, remote: IceCredentials) -> None:
        self.remote = remote
        self.remote_key = remote.password.encode()
        self._username = f"{remote.ufrag}:{self.local.ufrag}".encode()

    def build_check(
        self,
        transaction_id: bytes,
        *,
        priority: int,
        tie_breaker: bytes,
        controlling: bool,
        use_candidate: bool,
    ) -> bytes:
        """A request to the other side; `set_remote` must have been called."""
        return stun.binding_request(
            transaction_id,
            username=self._username,
            key=self.remote_key,
            priority=priority,
            tie_breaker=tie_breaker,
            controlling=controlling,
            use_candidate=use_candidate,
        )

    def knows(self, candidate: Candidate) -> bool:
        """Was this address signalled before?"""
        return any(
            c.transport == candidate.transport and c.address == candidate.address
            for c in self.candidates
        )

    def pair_up(
        self, base: Base, remote: Candidate, *, controlling: bool, keep: Pair | None
    ) -> Pair | None:
        """Form the pair of a socket and a remote candidate, if they can reach each other.

        A pair that a check of the other side had formed already only learns what the candidate really is
        (RFC 8445 section 7.3.1.3). Returns a pair that had to go, if any.
        """
        if not base.reaches(remote):
            return None
        dialled = base.transport == "tcp"
        host, port = base.address
        local = (host, port + self.number) if dialled else base.address
        path = Path(base.transport, local, remote.address)
        pair = self.checklist.get(path)
        if pair is not None:
            pair.remote = remote
            pair.rank(controlling=controlling)
            return None
        pair = Pair(
            path,
            remote,
            local_priority=base.priority,
            controlling=controlling,
            dialled=dialled,
        )
        return self.checklist.add(pair, keep=keep)

    def pair_for_request(
        self,
        path: Path,
        bases: tuple[Base, ...],
        *,
        priority: int,
        controlling: bool,
        keep: Pair | None,
    ) -> tuple[Pair, Pair | None]:
        """The pair of a path that a valid request came over, formed now if it is new; and one that had to go.

        Its remote candidate is a signalled one, or peer-reflexive with the request's PRIORITY.
        """
        pair = self.checklist.get(path)
        if pair is not None:
            return pair, None
        remote = next(
            (
                c
                for c in self.candidates
                if c.transport == path.transport and c.address == path.remote
            ),
            None,
        )
        if remote is None:
            remote = Candidate(
                foundation="prflx",
                component=1,
                transport=path.transport,
                priority=priority,
                host=path.remote[0],
                port=path.remote[1],
                type="prflx",
                tcptype="active" if path.transport == "tcp" else None,
            )
        pair = Pair(
            path,
            remote,
            local_priority=_local_priority(path, bases),
            controlling=controlling,
        )
        return pair, self.checklist.add(pair, keep=keep)


def _local_priority(path: Path, bases: tuple[Base, ...]) -> int:
    """That of the socket, else of the best of its transport: a listener's flows may bear other addresses."""
    same = [base for base in bases if base.transport == path.transport]
    exact = [base.priority for base in same if base.address == path.local]
    others = [base.priority for base in same]
    return max(exact or others, default=candidate_priority("host", path.transport, "passive"))
