"""The call in which sound and picture are hard to keep together, and the judgement of its recording."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from testbed.analysis.call import Call
from testbed.analysis.marks import find_beep_spans
from testbed.analysis.media import read_sound
from testbed.analysis.mp4_structure import read_mp4
from testbed.analysis.watching import watch
from testbed.bots.bot import Drift
from testbed.scenario import Event, Join, Mute, Say, ShareScreen, StopScreen, Unmute
from testbed.soaks.course import Course, Recorded, Stay
from testbed.soaks.offsets import MarkPair, Spread, pair_up

MEDIAN_LIMIT_S: Final = 0.020
P99_LIMIT_S: Final = 0.045
MOST_MISSING: Final = 0.10
"""Share of marks that may be lost with their packets. A beep that lost the first of its five stays too quiet:
Opus foretells the level of the next ones from the silence before."""
_CONCEALED_S: Final = 0.045
"""Two packets of a beep may have been made up."""
_MISSING_ANYWAY: Final = 3
"""However short the call is: losses come as they like."""
_SCREEN_ON_S: Final = 2.0
"""From the start of a share until its picture must be there."""
_ROUND_S: Final = 12.0
_MUTED_FROM_S: Final = 5.4
_MUTED_FOR_S: Final = 4.0


def sync_course(minutes: float, *, ppm: float = 100.0, loss: float = 0.05) -> Course:
    """Alice shares and beeps, then bob; each mutes every 12 s for 4, while carol unmutes and talks.

    Their sound cards and cameras run apart: by `ppm` each, in opposite directions.
    """
    end_s = minutes * 60
    middle_s = end_s / 2
    alice = _sharer("alice", 1.5, middle_s - 2)
    bob = _sharer("bob", middle_s + 0.5, end_s - 3)
    carol: list[Event] = [Join(0, "carol")]
    for start_s in _rounds(1.5, middle_s - 2) + _rounds(middle_s + 0.5, end_s - 3):
        muted_s = start_s + _MUTED_FROM_S
        carol += [
            Unmute(muted_s - 1.2, "carol"),
            Say(muted_s + 0.1, "carol", len(carol)),
            Mute(muted_s + 2.9, "carol"),
        ]
    return Course(
        (
            Stay("alice", alice, Drift(ppm, -ppm), rtp_stands_while_muted=True),
            Stay("bob", bob, Drift(-ppm, ppm)),
            Stay("carol", tuple(carol), Drift(-ppm, 0)),
        ),
        end_s,
        loss=loss,
    )


def _sharer(bot: str, start_s: float, stop_s: float) -> tuple[Event, ...]:
    events: list[Event] = [
        Join(0, bot),
        Unmute(max(0.0, start_s - 1.2), bot),
        ShareScreen(start_s, bot),
    ]
    for round_s in _rounds(start_s, stop_s):
        events += [
            Mute(round_s + _MUTED_FROM_S, bot),
            Unmute(round_s + _MUTED_FROM_S + _MUTED_FOR_S, bot),
        ]
    return (*events, StopScreen(stop_s, bot), Mute(stop_s + 0.5, bot))


def _rounds(start_s: float, stop_s: float) -> list[float]:
    count = int((stop_s - start_s) // _ROUND_S)
    return [start_s + number * _ROUND_S for number in range(count)]


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What was found in a recording of `sync_course`."""

    pairs: tuple[MarkPair, ...]
    shares_s: tuple[tuple[str, float, float], ...]
    duration_s: float
    frames: int
    packets_passed: int
    packets_lost: int

    def complaints(self) -> list[str]:
        """What is not good enough; empty when all is well."""
        offsets = Spread.of(self._offsets_s(self.pairs))
        if offsets is None:
            return ["no beep was found with its flash"]
        found = []
        if abs(offsets.median_s) > MEDIAN_LIMIT_S:
            found.append(f"median offset {offsets.median_s * 1000:.1f} ms")
        if offsets.p99_s > P99_LIMIT_S:
            found.append(f"p99 offset {offsets.p99_s * 1000:.1f} ms")
        for what, missing, sent in (
            ("flashes", len(self._missing_flashes()), len(self.pairs)),
            (
                "beeps",
                len(self._missing_beeps()),
                sum(p.beep_true_s is not None for p in self.pairs),
            ),
        ):
            if missing > max(_MISSING_ANYWAY, MOST_MISSING * sent):
                found.append(f"{missing} of {sent} {what} missing")
        return found

    def public(self) -> dict[str, Any]:
        """The report."""
        return {
            "good": not self.complaints(),
            "complaints": self.complaints(),
            "duration_s": round(self.duration_s, 3),
            "frames": self.frames,
            "frames_per_s": round(self.frames / self.duration_s, 2),
            "packets_passed": self.packets_passed,
            "packets_lost": self.packets_lost,
            **self._figures(self.pairs),
            "shares": [
                {"bot": bot, "from_s": round(start_s, 2), "to_s": round(stop_s, 2)}
                | self._figures([p for p in self.pairs if start_s <= p.flash_true_s <= stop_s])
                for bot, start_s, stop_s in self.shares_s
            ],
            "flashes_missing_at_s": [round(p.flash_true_s, 2) for p in self._missing_flashes()],
            "beeps_missing_at_s": [round(p.flash_true_s, 2) for p in self._missing_beeps()],
            "worst": [
                {"at_s": round(p.flash_true_s, 2)}
                | {name: _ms(value) for name, value in _errors(p).items()}
                for p in sorted(self.pairs, key=lambda p: abs(p.offset_s or 0), reverse=True)[:10]
            ],
        }

    def _figures(self, pairs: list[MarkPair] | tuple[MarkPair, ...]) -> dict[str, Any]:
        kinds = {
            "offset": self._offsets_s(pairs),
            "sound": [p.beep_error_s for p in pairs if p.beep_error_s is not None],
            "picture": [p.flash_error_s for p in pairs if p.flash_error_s is not None],
        }
        spreads = {kind: Spread.of(errors_s) for kind, errors_s in kinds.items()}
        return {kind: spread and spread.public() for kind, spread in spreads.items()}

    @staticmethod
    def _offsets_s(pairs: list[MarkPair] | tuple[MarkPair, ...]) -> list[float]:
        return [pair.offset_s for pair in pairs if pair.offset_s is not None]

    def _missing_flashes(self) -> list[MarkPair]:
        return [pair for pair in self.pairs if pair.flash_s is None]

    def _missing_beeps(self) -> list[MarkPair]:
        return [p for p in self.pairs if p.beep_true_s is not None and p.beep_s is None]


def judge_sync(recorded: Recorded) -> SyncResult:
    """Find beeps and flashes in the file. Blocks: seconds for each minute. Raises MediaError."""
    call, path = recorded.call, recorded.path
    watched = watch(path, [], width_px=recorded.width_px, height_px=recorded.height_px)
    structure = read_mp4(path)
    pairs = pair_up(
        _expected_flashes_s(call),
        call.marks_s("beep"),
        flashes_s=watched.flashes_s,
        beeps_s=find_beep_spans(read_sound(path), hole_s=_CONCEALED_S),
    )
    return SyncResult(
        tuple(pairs),
        tuple(call.shares_s()),
        structure.video_duration_s,
        _count_frames(path),
        recorded.packets_passed,
        recorded.packets_lost,
    )


def _expected_flashes_s(call: Call) -> list[float]:
    return [
        flash_s
        for flash_s in call.marks_s("flash")
        for _, start_s, stop_s in call.shares_s()
        if start_s + _SCREEN_ON_S <= flash_s <= stop_s - 0.3
    ]


def _count_frames(path: Path) -> int:
    import av

    with av.open(str(path)) as container:
        return int(container.streams.video[0].frames)


def _errors(pair: MarkPair) -> dict[str, float | None]:
    return {"offset": pair.offset_s, "sound": pair.beep_error_s, "picture": pair.flash_error_s}


def _ms(value_s: float | None) -> float | None:
    return None if value_s is None else round(value_s * 1000, 1)
