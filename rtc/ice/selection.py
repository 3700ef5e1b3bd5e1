"""Which pair carries media: nomination from both sides, consent, and the move to another pair when the
selected one falls silent (RFC 8445 section 8, RFC 7675)."""

from __future__ import annotations

from rtc.ice.consent import Consent
from rtc.ice.events import Disconnected, PathReleased, Recovered, Selected
from rtc.ice.generation import Generation
from rtc.ice.pair import Pair, PairState
from rtc.ice.path import Path
from rtc.ice.sender import CheckSender
from rtc.ice.timings import FAR_FUTURE_NS, IceTimings

_RECOVERY_RETRY_NS = 5_000_000_000


class Selection:
    """The selected pair, if any, and the way to the next."""

    __slots__ = (
        "_disconnected",
        "_hang_up_ns",
        "_nominating",
        "_recovering",
        "_retry_ns",
        "_sender",
        "_timings",
        "consent",
        "generation",
        "pair",
        "since_ns",
    )

    def __init__(self, sender: CheckSender, timings: IceTimings) -> None:
        self._sender = sender
        self._timings = timings
        self.pair: Pair | None = None
        """None before the first, and when its flow was closed."""
        self.generation: Generation | None = None
        """In which the pair was selected."""
        self.since_ns = 0
        """When it was."""
        self.consent: Consent | None = None
        """None until a first pair is selected; outlives the loss of its flow, as the clock that ends all."""
        self._nominating: Pair | None = None
        self._recovering = False
        """The selected pair does not answer; others are being checked."""
        self._retry_ns = 0
        """When to check others again, while recovering or to get back to UDP."""
        self._hang_up_ns = FAR_FUTURE_NS
        """When to close the TCP flows that are not needed."""
        self._disconnected = False

    def settled_in(self, generation: Generation) -> bool:
        """Is there a selected pair of this generation, and no search for another?"""
        return self.generation is generation and self.pair is not None and not self._recovering

    def wants_udp(self, generation: Generation) -> bool:
        """Are we settled, but on TCP, and is the choice ours?"""
        return (
            self._sender.controlling
            and self.settled_in(generation)
            and self.pair is not None
            and self.pair.is_tcp
        )

    def reset(self) -> None:
        """Forget everything: the end came."""
        self.pair = self.generation = self.consent = self._nominating = None
        self._recovering = self._disconnected = False
        self._hang_up_ns = FAR_FUTURE_NS

    def restarted(self) -> None:
        """A new generation begins; the selected pair stays until it has one."""
        self._recovering = False
        self._nominating = None

    def lose(self, path: Path) -> None:
        """The flow behind `path` is gone."""
        if self.pair is not None and self.pair.path == path:
            self.pair = None

    def check_succeeded(
        self, generation: Generation, pair: Pair, now_ns: int, *, nominating: bool
    ) -> None:
        """A pair is valid: select it if one side nominated it."""
        if not self._sender.controlling:
            self.take_nomination(generation, pair, now_ns)
        elif nominating and pair.sent_as_controlling:
            pair.nominated_ns = now_ns
            self._select(generation, pair, now_ns)

    def take_nomination(self, generation: Generation, pair: Pair, now_ns: int) -> None:
        """We are controlled, `pair` is valid: select it if the other side wants it more than the present one.

        An aggressive nominator nominates every pair at once, and the highest priority counts; one that
        stopped nominating the present pair has moved on.
        """
        present = self.pair
        if not pair.nominated_ns or pair is present:
            return
        moved_on = (
            present is not None
            and pair.nominated_ns > present.nominated_ns
            and now_ns - present.nominated_ns >= self._timings.renomination_ns
        )
        if (
            present is None
            or self.generation is not generation
            or pair.priority > present.priority
            or moved_on
            or (self.consent is not None and self.consent.doubtful(now_ns))
        ):
            self._select(generation, pair, now_ns)

    def nominate(self, generation: Generation, now_ns: int) -> int:
        """We are controlling: nominate a valid pair if one is wanted. Returns when to look again."""
        if not self._sender.controlling:
            return FAR_FUTURE_NS
        settled = self.settled_in(generation)
        if settled and not self.wants_udp(generation):
            return FAR_FUTURE_NS
        running = self._nominating
        if running is not None and running.nominating and running.state is PairState.IN_PROGRESS:
            return FAR_FUTURE_NS
        checklist = generation.checklist
        best = checklist.best_valid(excluding=self.pair)
        if best is None:
            return FAR_FUTURE_NS
        if settled and (best.is_tcp or (self.pair and best.priority <= self.pair.priority)):
            return FAR_FUTURE_NS
        if (
            self._recovering
            and self.pair is not None
            and self.consent is not None
            and not self.consent.hopeless(now_ns)
        ):
            return self.consent.hopeless_ns
        patience_ns = generation.first_valid_ns + self._timings.nomination_wait_ns
        if now_ns < patience_ns and checklist.may_beat(best):
            return patience_ns
        self._nominating = best
        self._sender.begin(generation, best, now_ns, nominate=True)
        return FAR_FUTURE_NS

    def consent_answered(self, transaction_id: bytes, generation: Generation, now_ns: int) -> None:
        """The selected pair answered a request that `consent` expects."""
        if self.consent is None or self.pair is None:
            return
        self.pair.rtt_ns = self.consent.answered(transaction_id, now_ns)
        self.pair.answered_ns = now_ns
        if self._recovering:
            self._recovering = False
            self._conclude(generation, now_ns)
        self._recovered()

    def keep(self, generation: Generation, now_ns: int) -> int:
        """Ask for consent, notice silence, look for another pair. Returns when something is due next.

        Whether consent has expired is for the caller to ask.
        """
        consent = self.consent
        if consent is None:
            return FAR_FUTURE_NS
        pair = self.pair
        if pair is not None and self.generation is not None and now_ns >= consent.next_ns:
            consent.asked(self._sender.ask_consent(self.generation, pair), now_ns)
        if not self._disconnected and (pair is None or consent.silent(now_ns)):
            self._disconnected = True
            self._sender.events.append(Disconnected())
        if now_ns >= self._hang_up_ns:
            self._hang_up_ns = FAR_FUTURE_NS
            if self.settled_in(generation):
                for spare in generation.checklist.hang_up(excluding=pair):
                    self._sender.events.append(PathReleased(spare.path))
        due_ns = min(consent.due_ns(now_ns), self._hang_up_ns)
        if self._sender.controlling and self.generation is generation:
            if pair is None or consent.doubtful(now_ns):
                self._recover(generation, now_ns)
                due_ns = min(due_ns, self._retry_ns)
            elif pair.is_tcp:
                if now_ns >= self._retry_ns:
                    generation.checklist.reopen(excluding=pair, only_udp=True)
                    self._retry_ns = now_ns + self._timings.upgrade_ns
                due_ns = min(due_ns, self._retry_ns)
        return due_ns

    def _recover(self, generation: Generation, now_ns: int) -> None:
        if self._recovering and now_ns < self._retry_ns:
            return
        self._recovering = True
        self._retry_ns = now_ns + _RECOVERY_RETRY_NS
        generation.first_valid_ns = 0
        generation.checklist.reopen(excluding=self.pair)

    def _select(self, generation: Generation, pair: Pair, now_ns: int) -> None:
        if self.pair is not None and self.consent is not None and self.consent.doubtful(now_ns):
            self.pair.end_check(PairState.FAILED, "stopped answering")
        self.pair = pair
        self.generation = generation
        self.since_ns = now_ns
        self.consent = Consent(self._timings, answered_ns=pair.answered_ns)
        self._nominating = None
        self._recovering = False
        self._retry_ns = now_ns + self._timings.upgrade_ns
        generation.deadline_ns = FAR_FUTURE_NS
        self._sender.events.append(Selected(pair.path))
        self._recovered()
        self._conclude(generation, now_ns)

    def _conclude(self, generation: Generation, now_ns: int) -> None:
        """No more checks, and soon no TCP flows of ours but the one in use."""
        generation.checklist.conclude(keep_udp=self.wants_udp(generation))
        if generation.checklist.has_flows(excluding=self.pair):
            self._hang_up_ns = now_ns + self._timings.linger_ns

    def _recovered(self) -> None:
        if self._disconnected:
            self._disconnected = False
            self._sender.events.append(Recovered())
