"""One Ogg Opus file per speaker, made of the packets as they come: nothing is decoded or encoded.

All begin with the recording and keep its time: where somebody sent nothing lies silence, so that the files
can be put beside each other in any editor. `speakers.json` says whose is whose.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from callclient.receive.tracks import EncodedFrame
from foundation.logs import get_logger
from jobs.job_directory import is_full
from jobs.ogg import OggOpusWriter
from jobs.recorder.scene import Scene
from rtc.opus import packet_samples

SPEAKERS_NAME: Final = "speakers.json"
_RATE_HZ: Final = 48_000
_SEAM: Final = 960
"""A packet this near to the end of the last one (samples, 20 ms) follows it."""
_MOST_BYTES: Final = 1 << 30
"""Of all files together: a hundred hours of speech at 24 kbit/s, or 18 at 128."""
_MOST_SPEAKERS: Final = 500
_PENDING: Final = 1_500
"""So many packets of one speaker at most wait for the next flush; half a minute."""

# Silence in CELT's full band, mono: frames whose first bit says that they are silent (RFC 6716 section 4.3).
# A voice that goes on after it comes up within a tenth of a second: decoders predict loudness from what was
# before. Frames that were not sent would spare that, but libopus fills them with noise.
_SILENT_FRAME: Final = b"\xff\xfe"
_SILENCES: Final = (
    (5760, bytes([31 << 3 | 3, 6]) + 6 * _SILENT_FRAME),
    (960, bytes([31 << 3]) + _SILENT_FRAME),
    (480, bytes([30 << 3]) + _SILENT_FRAME),
    (240, bytes([29 << 3]) + _SILENT_FRAME),
    (120, bytes([28 << 3]) + _SILENT_FRAME),
)
"""Packets by their length in samples, the longest first."""
_log = get_logger(component="speaker-tracks")


class _Track:
    def __init__(self, path: Path, number: int) -> None:
        self.path = path
        self.writer = OggOpusWriter(serial=number, vendor="calls-recorder")
        self.pending: list[tuple[bytes, int]] = []
        self.end = 0
        """Samples of the recording up to here are written or pending."""
        self._silences = 0
        """Of the pending packets."""
        self.begun = False

    def push(self, payload: bytes, samples: int, position: int) -> bool:
        """False: it lies where something else lies already, or too much waits."""
        gap = position - self.end
        if gap <= -_SEAM or len(self.pending) - self._silences >= _PENDING:
            return False
        if gap > _SEAM or (gap > 0 and not self.begun and not self.pending):
            self._fill(gap)
        self.pending.append((payload, samples))
        self.end += samples
        return True

    def flush(self) -> int:
        """Append what is pending; how many bytes. Raises OSError."""
        if not self.pending:
            return 0
        content = b"" if self.begun else self.writer.headers()
        content += self.writer.pages(self.pending)
        self.pending, self._silences, self.begun = [], 0, True
        with self.path.open("ab") as file:
            file.write(content)
        return len(content)

    def _fill(self, gap: int) -> None:
        for samples, packet in _SILENCES:
            count, gap = divmod(gap, samples)
            self.pending += [(packet, samples)] * count
            self._silences += count
            self.end += count * samples


class SpeakerTracks:
    """Blocking; owned by one thread. Never raises: a failure ends these files and nothing else."""

    def __init__(self, directory: Path, *, zero_ns: int) -> None:
        """Files go into `directory`; `zero_ns`: the start of the recording on the clock of the frames."""
        self._directory, self._zero_ns = directory, zero_ns
        self._tracks: dict[str, _Track] = {}
        self._people: dict[str, tuple[str, str]] = {}
        """User id and name by session."""
        self._told: list[dict[str, Any]] = []
        self._bytes = 0
        self._over = False
        self.packets_dropped = 0

    def note(self, scene: Scene) -> None:
        """Who is there."""
        for tile in scene.tiles:
            if len(self._people) < _MOST_SPEAKERS or tile.session_id in self._people:
                self._people[tile.session_id] = (tile.person.user_id, tile.person.name)

    def push(self, session_id: str, frame: EncodedFrame) -> None:
        """A packet of that session's voice."""
        samples = packet_samples(frame.payload)
        position = round((frame.time_ns - self._zero_ns) * _RATE_HZ / 1e9)
        if self._over or not samples or position < 0:
            return
        track = self._tracks.get(session_id)
        if track is None:
            if len(self._tracks) >= _MOST_SPEAKERS:
                self.packets_dropped += 1
                return
            number = len(self._tracks) + 1
            track = _Track(self._directory / f"speaker-{number:02}.ogg", number)
            self._tracks[session_id] = track
        if not track.push(frame.payload, samples, position):
            self.packets_dropped += 1

    def flush(self) -> None:
        """Bring everything to the disk; once a second."""
        if self._over or not self._tracks:
            return
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            for track in self._tracks.values():
                self._bytes += track.flush()
            self._tell()
        except (OSError, ValueError) as error:
            self._end(error.strerror or "" if isinstance(error, OSError) else str(error))
            if is_full(error):
                self._give_back()
        if self._bytes > _MOST_BYTES:
            self._end(f"{self._bytes} bytes are enough")

    def _tell(self) -> None:
        speakers = []
        for session_id, track in self._tracks.items():
            user_id, name = self._people.get(session_id, ("", ""))
            speakers.append(
                {
                    "file": track.path.name,
                    "session_id": session_id,
                    "user_id": user_id,
                    "name": name,
                }
            )
        if speakers != self._told:
            text = json.dumps({"speakers": speakers}, ensure_ascii=False, indent=1) + "\n"
            (self._directory / SPEAKERS_NAME).write_text(text, encoding="utf-8")
            self._told = speakers

    def _end(self, reason: str) -> None:
        self._over = True
        _log.warning("artifact.failed", artifact="speakers", reason=reason)

    def _give_back(self) -> None:
        """The recording needs the room."""
        for path in [track.path for track in self._tracks.values()]:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        with suppress(OSError):
            (self._directory / SPEAKERS_NAME).unlink(missing_ok=True)
