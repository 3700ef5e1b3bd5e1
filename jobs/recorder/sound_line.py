"""The sound of the recording: every voice and the shared screens' sound, mixed and written in time."""

from __future__ import annotations

from typing import Final, Protocol

from callclient.receive.tracks import EncodedFrame, TrackSource
from jobs.recorder.loudness import SpeechEar
from jobs.recorder.mixer import Mixer
from jobs.recorder.mp4 import AUDIO_BLOCK
from jobs.recorder.picture_line import SpeakingChange
from jobs.recorder.voice import RATE_HZ, Samples, VoiceTrack, to_samples

_WINDOW: Final = 10 * RATE_HZ
"""Sound may lie this far ahead of what is written; a burst after a stall fits."""


class SoundSink(Protocol):
    """Where the mix goes: `jobs.recorder.mp4.Mp4Writer`."""

    def write_sound(self, samples: Samples) -> None:
        """Up to AUDIO_BLOCK samples, fewer only at the end."""


class SoundLine:
    """Blocking; owned by one thread."""

    def __init__(self, sink: SoundSink, *, zero_ns: int) -> None:
        """`zero_ns`: the monotonic time of sample 0."""
        self._sink = sink
        self._zero_ns = zero_ns
        self.mixer = Mixer(window=_WINDOW)
        self._tracks: dict[str, VoiceTrack] = {}
        self._ears: dict[str, SpeechEar] = {}
        """By session; the sound of a screen is not speech."""
        self.packets_broken = 0

    def push(
        self, track_id: str, session_id: str, source: TrackSource, frame: EncodedFrame
    ) -> SpeakingChange | None:
        """Decode and place a packet; tells when its speaker begins or ceases to speak."""
        track = self._tracks.setdefault(track_id, VoiceTrack())
        broken = track.packets_broken
        block = track.push(frame, zero_ns=self._zero_ns)
        self.packets_broken += track.packets_broken - broken
        if block is None:
            return None
        self.mixer.add(block)
        if source is not TrackSource.VOICE:
            return None
        ear = self._ears.setdefault(session_id, SpeechEar())
        if not ear.push(block):
            return None
        return SpeakingChange(frame.time_ns, session_id, ear.speaking)

    def end_track(self, track_id: str) -> None:
        """No more packets will come from it."""
        self._tracks.pop(track_id, None)

    def advance(self, until_ns: int) -> list[SpeakingChange]:
        """Write whole blocks of the mix up to `until_ns`."""
        until = to_samples(until_ns - self._zero_ns)
        while self.mixer.position + AUDIO_BLOCK <= until:
            self._sink.write_sound(self.mixer.take(AUDIO_BLOCK))
        return [
            SpeakingChange(until_ns, session_id, ear.speaking)
            for session_id, ear in self._ears.items()
            if ear.silence_until(until)
        ]

    def finish(self, stop_ns: int) -> None:
        """Write the rest: the sound ends at `stop_ns`, to the sample."""
        self.advance(stop_ns)
        rest = to_samples(stop_ns - self._zero_ns) - self.mixer.position
        if rest > 0:
            self._sink.write_sound(self.mixer.take(rest))
