"""Which packets of a received stream to ask for again (RFC 4585 section 6.2.1), and when to stop asking."""

from __future__ import annotations


class NackGenerator:
    """The missing packets of one SSRC.

    Call `received` for each packet, `due` on a timer (the SFU every 100 ms, as publishers are used to it;
    a recorder every 10 to 20 ms). What cannot be asked for, because the hole is older or wider than the
    window, sets `key_frame_needed` instead: ask for a key frame and reset it.
    """

    __slots__ = (
        "_max_tries",
        "_min_age_ns",
        "_missing",
        "_newest",
        "_odd_sequence",
        "_window",
        "given_up",
        "key_frame_needed",
        "repeat_ns",
    )

    def __init__(
        self,
        *,
        window: int = 512,
        min_age_ns: int = 0,
        repeat_ns: int = 100_000_000,
        max_tries: int = 10,
    ) -> None:
        """`window`: packets behind the newest one that are still asked for; also the most at once.

        `min_age_ns`: how long a packet may be late because of reordering before it is asked for.
        """
        self._window = window
        self._min_age_ns = min_age_ns
        self._max_tries = max_tries
        self.repeat_ns = repeat_ns
        """May follow the round trip."""
        # Sequence number, one turn up and unwrapped: (missed since, asked last, times asked).
        self._missing: dict[int, tuple[int, int, int]] = {}
        self._newest = -1
        self._odd_sequence = -1
        self.key_frame_needed = False
        self.given_up = 0
        """Packets that never came, however often they were asked for."""

    @property
    def missing(self) -> int:
        """How many packets are waited for."""
        return len(self._missing)

    def received(self, sequence: int, now_ns: int) -> None:
        """A packet came; `sequence` is its 16-bit number."""
        newest = self._newest
        step = (sequence - newest) & 0xFFFF
        if step == 1 and newest >= 0:
            self._newest = newest + 1
        elif newest < 0:
            self._newest = 0x10000 + sequence
        elif step < 0x8000:
            self._gap(newest + step, now_ns)
        elif 0x10000 - step <= self._window:
            self._missing.pop(newest + step - 0x10000, None)
        elif sequence == self._odd_sequence:
            # Two in a row from before the window: the sender has started again.
            self._restart(newest + step)
        else:
            self._odd_sequence = (sequence + 1) & 0xFFFF

    def due(self, now_ns: int) -> list[int]:
        """16-bit numbers to ask for now, ascending; each again after `repeat_ns`."""
        if not self._missing:
            return []
        wanted: list[int] = []
        exhausted: list[int] = []
        oldest = self._newest - self._window
        for number, (since_ns, asked_ns, tries) in self._missing.items():
            if number < oldest or (
                tries >= self._max_tries and now_ns - asked_ns >= self.repeat_ns
            ):
                exhausted.append(number)
            elif tries == 0:
                if now_ns - since_ns >= self._min_age_ns:
                    self._missing[number] = (since_ns, now_ns, 1)
                    wanted.append(number & 0xFFFF)
            elif tries < self._max_tries and now_ns - asked_ns >= self.repeat_ns:
                self._missing[number] = (since_ns, now_ns, tries + 1)
                wanted.append(number & 0xFFFF)
        self._give_up(exhausted)
        return wanted

    def key_frame(self, sequence: int) -> None:
        """A key frame starts at `sequence`: nothing before it is needed any more."""
        start = self._newest - ((self._newest - sequence) & 0xFFFF)
        for number in [n for n in self._missing if n < start]:
            del self._missing[number]
        self.key_frame_needed = False

    def _gap(self, number: int, now_ns: int) -> None:
        newest = self._newest
        if number == newest:
            return
        if number - newest > self._window:
            self._restart(number)
            return
        self._newest = number
        for missed in range(newest + 1, number):
            self._missing[missed] = (now_ns, 0, 0)
        if next(iter(self._missing)) < number - self._window:
            self._give_up([n for n in self._missing if n < number - self._window])

    def _restart(self, number: int) -> None:
        """A jump that no repetition can mend: forget the holes, go on from here."""
        self.given_up += len(self._missing)
        self._missing.clear()
        self._newest = number
        self._odd_sequence = -1
        self.key_frame_needed = True

    def _give_up(self, numbers: list[int]) -> None:
        for number in numbers:
            del self._missing[number]
        if numbers:
            self.given_up += len(numbers)
            self.key_frame_needed = True
