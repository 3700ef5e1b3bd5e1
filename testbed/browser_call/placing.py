"""From tapes to the truth: where in a page's own sound each sentence was, to the millisecond."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Final

from testbed.analysis.marks import find_beeps
from testbed.analysis.media import ANALYSIS_HZ, Sound
from testbed.analysis.placement import place
from testbed.browser_call.actor import Actor, Said, Sending
from testbed.speech.clips import Clip
from testbed.speech.opus_file import RATE_HZ, resample
from testbed.truth import Mark, Truth, Utterance

_NS: Final = 1_000_000_000
_EDGE_NS: Final = 50_000_000
"""Of a stretch in which a voice was sent; nearer to its ends it is not certain what went out."""
_CUT_EDGE_NS: Final = 250_000_000
"""A word that ends nearer to a reload may not have gone out."""


class NotOnTape(Exception):
    """A page did not carry what it was told to say; the message says which clip."""


@dataclass(frozen=True, slots=True)
class Performed:
    """Everything that is known of a call."""

    truth: Truth
    clips: Mapping[str, Sequence[Clip]]
    """All that was said, cut short where it was cut short."""
    unheard: tuple[Utterance, ...]
    """Said into a muted microphone."""
    sendings: Mapping[str, Sequence[Sending]]


def loop_start_ns(actor: Actor, first: Clip, *, first_s: float) -> int:
    """When the looped sound file began, from the first sentence on the tape. Raises NotOnTape."""
    sound = actor.pages[0].tapes["voice"].sound(0)
    return _place_ns(sound, first, round((sound.start_s + first_s) * _NS)) - round(first_s * _NS)


def performed(
    actors: Sequence[Actor],
    clips: Mapping[str, Sequence[Clip]],
    *,
    looped: Actor,
    first_ns: int,
    every_s: float,
    epoch_offset_ns: int,
) -> Performed:
    """Put it together. Raises NotOnTape."""
    utterances: list[Utterance] = []
    known: dict[str, list[Clip]] = {name: list(own) for name, own in clips.items()}
    for actor in actors:
        for said in actor.said:
            clip, utterance = _as_it_went_out(actor, said)
            utterances.append(utterance)
            if clip is not said.clip:
                known[actor.name].append(clip)
    every = list(_loop(looped, clips[looped.name], first_ns, round(every_s * _NS)))
    heard = [u for u in every if _sent(looped, u.onset_ns, u.end_ns)]
    unheard = [u for u in every if _silent(looped, u.onset_ns, u.end_ns)]
    utterances = sorted([*utterances, *heard], key=lambda utterance: utterance.start_ns)
    marks = [mark for actor in actors for mark in (*actor.marks, *_beeps(actor))]
    marks.sort(key=lambda mark: mark.at_ns)
    sessions = {session: actor.name for actor in actors for session in actor.sessions}
    truth = Truth(epoch_offset_ns, tuple(utterances), tuple(marks), sessions)
    return Performed(truth, known, tuple(unheard), {a.name: a.sendings for a in actors})


def _beeps(actor: Actor) -> list[Mark]:
    """As they are on the tapes of the screens' sound."""
    found = []
    for page in actor.pages:
        for name, tape in page.tapes.items():
            if name.startswith("beeps-"):
                sound = tape.sound(0)
                found += [Mark("beep", actor.name, round(at_s * _NS)) for at_s in find_beeps(sound)]
    return found


def _loop(actor: Actor, clips: Sequence[Clip], first_ns: int, every_ns: int) -> list[Utterance]:
    sound = actor.pages[0].tapes["voice"].sound(0)
    found: list[Utterance] = []
    due_ns = first_ns
    for number in count():
        clip = clips[number % len(clips)]
        if due_ns / _NS + clip.duration_s > sound.end_s:
            return found
        # Where the device was late once it stays late.
        due_ns = _place_ns(sound, clip, due_ns)
        found.append(_utterance(actor, clip, due_ns))
        due_ns += every_ns
    return found


def _as_it_went_out(actor: Actor, said: Said) -> tuple[Clip, Utterance]:
    sound = actor.pages[said.page].tapes["voice"].sound(0)
    if said.cut_ns is None:
        return said.clip, _utterance(actor, said.clip, _place_ns(sound, said.clip, said.due_ns))
    part = _first_part(said.clip, (said.cut_ns - said.due_ns) / _NS)
    start_ns = _place_ns(sound, part, said.due_ns)
    fits = (said.cut_ns - _CUT_EDGE_NS - start_ns) / _NS
    words = tuple(word for word in part.words if word.end_s <= fits)
    part = replace(part, words=words, text=" ".join(word.text for word in words))
    return part, _utterance(actor, part, start_ns)


def _first_part(clip: Clip, length_s: float) -> Clip:
    samples = clip.samples[: round(length_s * RATE_HZ)]
    return replace(clip, name=f"{clip.name} cut", samples=samples)


def _utterance(actor: Actor, clip: Clip, start_ns: int) -> Utterance:
    return Utterance(actor.name, clip.name, clip.text, clip.words, start_ns)


def _place_ns(sound: Sound, clip: Clip, due_ns: int) -> int:
    true_s = due_ns / _NS
    samples = resample(clip.samples, RATE_HZ, to_hz=ANALYSIS_HZ)
    found = place(sound, bot="", clip=clip.name, clip_samples=samples, true_s=true_s)
    if found.found_s is None:
        raise NotOnTape(
            f"{clip.name} is not near {true_s:.1f} s on a tape of {sound.start_s:.1f} to {sound.end_s:.1f} s"
        )
    return round(found.found_s * _NS)


def _sent(actor: Actor, start_ns: int, end_ns: int) -> bool:
    return any(
        s.begun_ns + _EDGE_NS <= start_ns and end_ns <= s.ending_ns - _EDGE_NS
        for s in actor.sendings
    )


def _silent(actor: Actor, start_ns: int, end_ns: int) -> bool:
    return not any(s.asked_ns < end_ns and start_ns < s.ended_ns for s in actor.sendings)
