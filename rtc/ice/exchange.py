"""What the STUN messages of the other side mean: checks to answer, answers to our checks, conflicts of role
(RFC 8445 sections 7.2.5 and 7.3)."""

from __future__ import annotations

from collections.abc import Iterable

from rtc import stun
from rtc.ice.bounds import IceBounds
from rtc.ice.checklist import Base
from rtc.ice.events import PathReleased, PathValidated
from rtc.ice.generation import Generation
from rtc.ice.pair import Pair, PairState
from rtc.ice.path import Path
from rtc.ice.selection import Selection
from rtc.ice.sender import CheckSender
from rtc.ice.timings import FAR_FUTURE_NS, IceTimings

_MAX_ROLE_SWITCHES = 10
"""By 487 responses in one generation; a peer that always refuses must not keep us switching."""


class Exchange:
    """Knows the generations and our sockets; tells sender and selection what came."""

    __slots__ = (
        "_bounds",
        "_selection",
        "_sender",
        "_timings",
        "bases",
        "current",
        "forbidden_requests",
        "ignored_messages",
        "previous",
        "refused_requests",
    )

    def __init__(
        self,
        generation: Generation,
        sender: CheckSender,
        selection: Selection,
        timings: IceTimings,
        bounds: IceBounds,
    ) -> None:
        self._bounds = bounds
        self._sender = sender
        self._selection = selection
        self._timings = timings
        self.bases: tuple[Base, ...] = ()
        self.current = generation
        self.previous: Generation | None = None
        """The one before a restart, as long as media goes over its pair."""
        self.refused_requests = 0
        self.forbidden_requests = 0
        """That seem to come from where nothing is to be sent."""
        self.ignored_messages = 0

    def receive(self, datagram: bytes, path: Path, now_ns: int) -> None:
        """Take whatever came."""
        try:
            message = stun.parse_message(datagram)
        except stun.StunError:
            self.ignored_messages += 1
            return
        if message.kind == stun.BINDING_REQUEST:
            self._request_received(message, path, now_ns)
        elif message.kind in (stun.BINDING_SUCCESS, stun.BINDING_ERROR):
            self._response_received(message, path, now_ns)

    def renew(self, generation: Generation) -> None:
        """A restart: the present generation stays only while media goes over its pair."""
        ended = self.current
        self.current = generation
        self._selection.restarted()
        if self._selection.pair is not None and self._selection.generation is ended:
            self.previous = ended
        else:
            self.release(ended.checklist)

    def end_restart(self, now_ns: int) -> int:
        """Forget the generation before, some time after a pair of the present one was selected.

        Returns when that is.
        """
        if self.previous is None or self._selection.generation is not self.current:
            return FAR_FUTURE_NS
        end_ns = self._selection.since_ns + self._timings.linger_ns
        if now_ns < end_ns:
            return end_ns
        previous, self.previous = self.previous, None
        self.release(previous.checklist)
        return FAR_FUTURE_NS

    def release(self, pairs: Iterable[Pair]) -> None:
        """Tell the owner of paths that are not needed any more; not of those still in use."""
        kept = [g.checklist.get for g in (self.current, self.previous) if g is not None]
        for pair in pairs:
            others = [get(pair.path) for get in kept]
            if pair.in_use and not any(other.in_use for other in others if other is not None):
                self._sender.events.append(PathReleased(pair.path))

    def _request_received(self, message: stun.StunMessage, path: Path, now_ns: int) -> None:
        generation = self._generation_of(message.username or "")
        if generation is None or not message.integrity_holds(generation.local_key):
            self.refused_requests += 1
            return
        if self._bounds.forbids(path.remote[0]):
            self.forbidden_requests += 1  # its source may be made up: even an answer would go there
            return
        sender = self._sender
        key = generation.local_key
        if message.unknown:
            sender.refuse(message, path, key, stun.UNKNOWN_ATTRIBUTE)
            return
        if message.priority is None:
            sender.refuse(message, path, key, stun.BAD_REQUEST)
            return
        if self._in_conflict(message):
            sender.refuse(message, path, key, stun.ROLE_CONFLICT)
            return
        sender.answer(message, path, key)
        if generation is not self.current:
            return  # keeps the old path alive during a restart; what is new happens in the new generation
        pair, gone = generation.pair_for_request(
            path,
            self.bases,
            priority=message.priority,
            controlling=self._sender.controlling,
            keep=self._selection.pair,
        )
        if gone is not None:
            self.release([gone])
        if gone is not pair:
            self._request_on(
                pair, now_ns, nominated=message.use_candidate and not self._sender.controlling
            )

    def _request_on(self, pair: Pair, now_ns: int, *, nominated: bool) -> None:
        """Triggered check and nomination (RFC 8445 sections 7.3.1.4 and 7.3.1.5)."""
        self._validated(pair)
        if nominated:
            pair.nominated_ns = now_ns
        if pair.state is PairState.SUCCEEDED:
            if not nominated:
                return
            if now_ns < pair.answered_ns + self._timings.expiry_ns:
                self._selection.take_nomination(self.current, pair, now_ns)
            else:  # it was valid too long ago to send media there unasked
                self.current.checklist.trigger(pair)
        elif pair.state is PairState.IN_PROGRESS:
            self._sender.hasten(pair, now_ns)
        elif pair.flow_open:
            self.current.checklist.trigger(pair)

    def _generation_of(self, username: str) -> Generation | None:
        """By our ufrag before the colon, and by the other side's where a restart kept ours."""
        ours, _, theirs = username.partition(":")
        previous = self.previous
        if previous is not None and previous.local.ufrag == ours:
            same = self.current.local.ufrag == ours
            if not same or (previous.remote is not None and previous.remote.ufrag == theirs):
                return previous
        return self.current if self.current.local.ufrag == ours else None

    def _in_conflict(self, message: stun.StunMessage) -> bool:
        """Both sides have one role: True if the other one is to change it (RFC 8445 section 7.3.1.1)."""
        if self._sender.controlling:
            theirs = message.controlling
            if theirs is None:
                return False
            we_stay = self._sender.tie_breaker >= theirs
        else:
            theirs = message.controlled
            if theirs is None:
                return False
            we_stay = self._sender.tie_breaker < theirs
        if not we_stay:
            self._switch_role()
        return we_stay

    def _switch_role(self) -> None:
        self._sender.controlling = not self._sender.controlling
        self.current.checklist.rank(controlling=self._sender.controlling)
        if self._selection.consent is not None:
            self._selection.consent.forget_requests()

    def _response_received(self, message: stun.StunMessage, path: Path, now_ns: int) -> None:
        if not self._consent_response(message, path, now_ns) and not self._check_response(
            message, path, now_ns
        ):
            self.ignored_messages += 1

    def _consent_response(self, message: stun.StunMessage, path: Path, now_ns: int) -> bool:
        selection = self._selection
        consent, pair, generation = selection.consent, selection.pair, selection.generation
        if consent is None or pair is None or generation is None or pair.path != path:
            return False
        if not consent.expects(message.transaction_id):
            return False
        if not message.integrity_holds(generation.remote_key):
            return False
        if message.kind == stun.BINDING_SUCCESS:
            selection.consent_answered(message.transaction_id, self.current, now_ns)
        elif message.error_code == stun.ROLE_CONFLICT:
            self._refused_role()
        return True

    def _check_response(self, message: stun.StunMessage, path: Path, now_ns: int) -> bool:
        """The answer to a running check: same transaction, same path, made with their password."""
        generation = self.current
        pair = generation.checklist.get(path)
        if (
            pair is None
            or pair.state is not PairState.IN_PROGRESS
            or pair.transaction_id != message.transaction_id
            or not message.integrity_holds(generation.remote_key)
        ):
            return False
        if message.kind == stun.BINDING_SUCCESS:
            self._check_succeeded(pair, now_ns)
        elif message.error_code == stun.ROLE_CONFLICT:
            if pair.sent_as_controlling == self._sender.controlling:
                self._refused_role()
            generation.checklist.trigger(pair)
        else:
            pair.end_check(PairState.FAILED, f"refused with {message.error_code}")
        return True

    def _check_succeeded(self, pair: Pair, now_ns: int) -> None:
        nominating = pair.nominating
        pair.end_check(PairState.SUCCEEDED)
        pair.answered_ns = now_ns
        if pair.transmissions == 1:  # else nobody knows which one was answered
            pair.rtt_ns = now_ns - pair.sent_ns
        if not self.current.first_valid_ns:
            self.current.first_valid_ns = now_ns
        self._validated(pair)
        self._selection.check_succeeded(self.current, pair, now_ns, nominating=nominating)

    def _refused_role(self) -> None:
        """The other side says 487: it keeps the role, we change ours (RFC 8445 section 7.2.5.1)."""
        self.current.role_switches += 1
        if self.current.role_switches <= _MAX_ROLE_SWITCHES:
            self._switch_role()

    def _validated(self, pair: Pair) -> None:
        if not pair.validated:
            pair.validated = True
            self._sender.events.append(PathValidated(pair.path))
