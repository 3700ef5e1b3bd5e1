"""The sound of the recording: every voice and the shared screens' sound, mixed and written in time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

from callclient.receive.tracks import EncodedFrame, TrackSource
from jobs.recorder.levelling import Leveller
from jobs.recorder.loudness import SpeechEar
from jobs.recorder.mixer import Mixer
from jobs.recorder.mp4 import AUDIO_BLOCK
from jobs.recorder.picture_line import SpeakingChange
from jobs.recorder.voice import RATE_HZ, PlacedBlock, Samples, VoiceTrack, to_samples

_WINDOW: Final = 10 * RATE_HZ
"""Sound may lie this far ahead of what is written; a burst after a stall fits."""
_AWAY: Final = 2 * RATE_HZ
"""Who is unmuted sends all the time. Without a packet for so long nothing is being said, whatever the server
told last: it does not notice a browser that stops without muting."""


class SoundSink(Protocol):
    """Where the mix goes: `jobs.recorder.mp4.Mp4Writer`."""

    def write_sound(self, samples: Samples) -> None:
        """Up to AUDIO_BLOCK samples, fewer only at the end."""


@dataclass(slots=True)
class _Track:
    session_id: str
    voice: VoiceTrack = field(default_factory=VoiceTrack)
    ended: bool = False


@dataclass(slots=True)
class _Speaker:
    """Of one session. The sound of a shared screen is not speech: it is neither heard nor levelled."""

    ear: SpeechEar = field(default_factory=SpeechEar)
    leveller: Leveller = field(default_factory=Leveller)
    sending: bool = False

    def hear(self, block: PlacedBlock) -> bool:
        """Has anything changed with it?"""
        began, self.sending = not self.sending, True
        return self.ear.push(block) or began

    def silence_until(self, position: int) -> bool:
        """Nothing came up to that sample; has anything changed?"""
        ended = self.sending and position - self.ear.end >= _AWAY
        self.sending = self.sending and not ended
        return self.ear.silence_until(position) or ended

    def change(self, session_id: str, at_ns: int) -> SpeakingChange:
        return SpeakingChange(at_ns, session_id, self.ear.speaking, self.sending)


class SoundLine:
    """Blocking; owned by one thread."""

    def __init__(self, sink: SoundSink, *, zero_ns: int) -> None:
        """`zero_ns`: the monotonic time of sample 0."""
        self._sink = sink
        self._zero_ns = zero_ns
        self.mixer = Mixer(window=_WINDOW)
        self._tracks: dict[str, _Track] = {}
        self._speakers: dict[str, _Speaker] = {}
        self._told_ns = zero_ns
        """Changes up to then are told: one that is noticed late counts from here."""
        self.packets_broken = 0

    @property
    def written_ns(self) -> int:
        """Up to when the sound is in the file."""
        return self._zero_ns + self.mixer.position * 1_000_000_000 // RATE_HZ

    def push(
        self, track_id: str, session_id: str, source: TrackSource, frame: EncodedFrame
    ) -> SpeakingChange | None:
        """Decode and place a packet; tells when its speaker begins to send, begins or ceases to speak."""
        track = self._tracks.get(track_id)
        if track is None:  # each has a decoder: not to be made for every packet
            track = self._tracks[track_id] = _Track(session_id)
        track.ended = False
        self._close_gap(track, frame)
        broken = track.voice.packets_broken
        block = track.voice.push(frame, zero_ns=self._zero_ns)
        self.packets_broken += track.voice.packets_broken - broken
        if block is None or not len(block.samples):
            return None
        if source is not TrackSource.VOICE:
            self.mixer.add(block)
            return None
        speaker = self._speakers.get(session_id)
        if speaker is None:
            speaker = self._speakers[session_id] = _Speaker()
        changed = speaker.hear(block)
        self.mixer.add(PlacedBlock(block.position, speaker.leveller.apply(block.samples)))
        return speaker.change(session_id, max(frame.time_ns, self._told_ns)) if changed else None

    def end_track(self, track_id: str) -> None:
        """No more packets will come from it."""
        if track_id in self._tracks:
            self._tracks[track_id].ended = True

    def advance(self, until_ns: int) -> list[SpeakingChange]:
        """Write whole blocks of the mix up to `until_ns`."""
        until = to_samples(until_ns - self._zero_ns)
        while self.mixer.position + AUDIO_BLOCK <= until:
            self._fade_ends(self.mixer.position + AUDIO_BLOCK)
            self._sink.write_sound(self.mixer.take(AUDIO_BLOCK))
        changes = [
            speaker.change(session_id, until_ns)
            for session_id, speaker in self._speakers.items()
            if speaker.silence_until(until)
        ]
        self._told_ns = max(self._told_ns, until_ns)
        self._forget_who_left()
        return changes

    def finish(self, stop_ns: int) -> None:
        """Write the rest: the sound ends at `stop_ns`, to the sample."""
        self.advance(stop_ns)
        rest = to_samples(stop_ns - self._zero_ns) - self.mixer.position
        if rest > 0:
            self._sink.write_sound(self.mixer.take(rest))

    def _close_gap(self, track: _Track, frame: EncodedFrame) -> None:
        """A mute ends what was heard wherever its wave was just then."""
        end = track.voice.end
        told = to_samples(frame.time_ns - frame.lost_ns - self._zero_ns)
        if end is not None and told - end > 2 * AUDIO_BLOCK:
            self._fade_out(track)

    def _fade_ends(self, before: int) -> None:
        """Where a track ends in what is about to be written, nothing has come since."""
        for track in self._tracks.values():
            end = track.voice.end
            if end is not None and end < before:
                self._fade_out(track)

    def _fade_out(self, track: _Track) -> None:
        tail = track.voice.fade_out()
        if tail is None or tail.position < self.mixer.position:
            return
        speaker = self._speakers.get(track.session_id)
        gain_db = speaker.leveller.gain_db if speaker is not None else 0.0
        self.mixer.add(PlacedBlock(tail.position, tail.samples * 10 ** (gain_db / 20)))

    def _forget_who_left(self) -> None:
        position = self.mixer.position
        for track_id, track in list(self._tracks.items()):
            if track.ended and (track.voice.end is None or track.voice.end < position):
                del self._tracks[track_id]
        if len(self._speakers) > len(self._tracks):
            here = {track.session_id for track in self._tracks.values()}
            for session_id, speaker in list(self._speakers.items()):
                if session_id not in here and not speaker.sending:
                    del self._speakers[session_id]
