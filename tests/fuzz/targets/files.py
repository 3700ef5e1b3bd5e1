"""Files that another process, release or host has left: recordings, captures, journals, stores, texts."""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import shutil
import struct
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from foundation import file_manifest
from foundation.copies import journal
from foundation.copies.stores import StoreError
from jobs import job_input, publication
from jobs.copies import fence
from jobs.job_directory import base_name, span_of
from jobs.ogg import OggOpusWriter, read_pages
from jobs.recorder.moments import MOMENTS_NAME, read_moments
from jobs.recorder.repair import cut_to_playable, playable_bytes
from jobs.recorder.subtitles import SubtitlesError, read_cues
from jobs.transcriber import losses, outcome, retranscribe, track_bundle
from jobs.transcriber.capture import INDEX_SUFFIX, find_captures
from jobs.transcriber.engines.hints import Hints
from jobs.transcriber.speakers import SpeakerDirectory
from offloader.backends.process_files import read_shim_file
from offloader.store import backup_file
from offloader.store.bitcask import read_bitcask
from tests.fuzz.target import Target, joined, pieces

_place = Path(tempfile.mkdtemp(prefix="fuzz-"))
atexit.register(shutil.rmtree, _place, ignore_errors=True)
_MOST_PER_BYTE = 8


def _fresh() -> Path:
    shutil.rmtree(_place, ignore_errors=True)
    _place.mkdir(mode=0o700)
    return _place


def _recording(data: bytes) -> None:
    path = _fresh() / "call.mp4"
    path.write_bytes(data)
    whole = playable_bytes(path)
    assert 0 <= whole <= len(data)
    cut_to_playable(path)
    assert path.stat().st_size == whole
    assert playable_bytes(path) <= whole


def _ogg(data: bytes) -> None:
    held = 0
    for page in read_pages(io.BytesIO(data)):
        held += sum(map(len, page.packets))
    assert held <= len(data)


def _captures(data: bytes) -> None:
    directory = _fresh()
    sound, index, gaps, *_ = [*pieces(data, 3), b"", b"", b""]
    (directory / "a.ogg").write_bytes(sound)
    (directory / f"a.ogg{INDEX_SUFFIX}").write_bytes(index)
    (directory / "connection.json").write_bytes(gaps)
    captures = find_captures(directory)
    for capture in captures:
        assert sum(len(packet.payload) for packet in capture.packets()) <= _MOST_PER_BYTE * len(
            sound
        )
    losses.lost_connections(directory)
    losses.lost_packets(captures)


def _journal(data: bytes) -> None:
    directory = _fresh()
    for part in (data, *pieces(data, 4)):
        with contextlib.suppress(journal.JournalError, OSError):
            entry = journal.decode(part)
            journal.apply(directory, entry)
    with contextlib.suppress(StoreError):
        fence._decoded(1, data, "key")
    (directory.parent / directory.name / fence.IDENTITY_NAME).write_bytes(data)
    with contextlib.suppress(OSError):
        fence._identity_in(directory, make=False)


def _store(data: bytes) -> None:
    directory = _fresh()
    for number, part in enumerate(pieces(data, 2)):
        (directory / f"{number:09d}.data").write_bytes(part)
    content = read_bitcask(directory, now_s=1000)
    assert sum(map(len, content.values.values())) <= len(data)


def _books(data: bytes) -> None:
    """Whatever lies under the names of a job's own files."""
    directory = _fresh()
    for name in (
        *("job.json", "shim.json", "speakers.json", "connection.json", "publication.json"),
        *(MOMENTS_NAME, outcome.JSON_NAME, outcome.VTT_NAME, outcome.TEXT_NAME),
    ):
        (directory / name).write_bytes(data)
    base_name(directory)
    span_of(directory)
    read_shim_file(directory)
    assert all(moment.at_s >= 0 for moment in read_moments(directory))
    SpeakerDirectory.load(directory)
    losses.lost_connections(directory)
    outcome.written_language(directory)
    with contextlib.suppress(ValueError):  # documented: the record is damaged
        publication.PublishState(directory)
    document = retranscribe._written(directory)
    assert document is None or isinstance(document["segments"], list)
    job_input.parse_input(data)


def _archive(*members: tuple[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:") as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def _bundle(data: bytes) -> None:
    directory = _fresh()
    bundle = directory / "bundle"
    bundle.write_bytes(data)
    with contextlib.suppress(track_bundle.BundleError, OSError):
        for capture, _ in track_bundle.unpack(bundle, directory)[1]:
            list(capture.packets())
    with contextlib.suppress(track_bundle.BundleError):
        track_bundle.read_result(data)
    # As if `data` were the task in a whole bundle.
    members = ("task.json", data), ("0.ogg", b""), ("0.ogg" + INDEX_SUFFIX, data)
    bundle.write_bytes(_archive(*members))
    with contextlib.suppress(track_bundle.BundleError, OSError):
        track_bundle.unpack(bundle, directory)


def _backup(data: bytes) -> None:
    """Of the service's store; and the chain of what a job keeps."""
    directory = _fresh()
    whole = _archive(("manifest.json", data), (backup_file.DATABASE_NAME, b""))
    for number, content in enumerate((data, whole)):
        source, target = directory / f"{number}.tar", directory / str(number)
        source.write_bytes(content)
        target.mkdir()
        with contextlib.suppress(backup_file.StoreError, OSError):
            backup_file.unpack(source, target)
    with contextlib.suppress(file_manifest.ManifestError):
        file_manifest.entries_of(data)


def _cues(data: bytes) -> None:
    path = _fresh() / "transcript.vtt"
    path.write_bytes(data)
    with contextlib.suppress(SubtitlesError):
        last_ms = -(1 << 70)
        for cue in read_cues(path):
            assert last_ms <= cue.start_ms < cue.end_ms
            last_ms = cue.end_ms


_MODES: dict[bytes, Callable[[bytes], None]] = {
    b"r": _recording,
    b"o": _ogg,
    b"c": _captures,
    b"j": _journal,
    b"k": _store,
    b"b": _books,
    b"t": _bundle,
    b"u": _backup,
    b"v": _cues,
}


def _run(data: bytes) -> None:
    mode = _MODES.get(data[:1])
    if mode is not None:
        mode(data[1:])


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _seeds() -> Iterable[bytes]:
    film = (
        _box(b"ftyp", b"isom")
        + _box(b"moov", bytes(20))
        + _box(b"moof", b"")
        + _box(b"mdat", bytes(9))
    )
    large = struct.pack(">I4sQ", 1, b"mdat", 20) + bytes(4)
    yield b"r" + film + large + film[:50]
    writer = OggOpusWriter(serial=7)
    sound = writer.headers() + writer.pages([(b"\x78" + bytes(20), 960)] * 3)
    sound += writer.pages([(b"\x78" + bytes(300), 960)])
    yield b"o" + sound
    yield b"o" + b"OggS" + sound[:200] + sound
    head = {"track_id": "t", "session_id": "s", "user_id": "u"}
    index = "\n".join(map(json.dumps, (head, [0, 0, 0], [960, 5_000_000, 111, 2_000_000, True])))
    yield b"c" + joined([sound, index.encode(), b"[[1,2],[3,4.5]]"])
    first = journal.Entry([journal.Change("a/b", 0, b"data", True)], [], 0).encode()
    yield b"j" + first
    yield b"j" + joined(
        [first, journal.Entry([journal.Change("a/b", 2, b"new", False)], ["c"], 1).encode()]
    )
    yield b"j" + b'{"owner":"o","restored_from":"r","files":["f"],"others":[]}'
    records = b"".join(
        struct.pack(">IQ", len(key), len(value))
        + key
        + value
        + struct.pack(">IQ", zlib.crc32(value), expiry)
        for key, value, expiry in ((b"client", b"hash", 0), (b"old", b"x", 5), (b"client", b"", 0))
    )
    yield b"k" + joined([records, records[:-8]])
    for document in (
        {"base_name": "call", "span": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"},
        {"shim_pid": 1, "shim_start": 2, "child_pid": 3, "child_start": 4, "kill_at_monotonic_s": 1.5,
         "job_type": "recording", "cgroup": "/x"},
        {"s": {"user_id": "u", "name": "n"}},
        {"at_s": 1.5, "kind": "screen", "name": "n", "count": 2},
        [[1, 2], [3, 4]],
        {"uploaded": {"a": "b"}, "sessions": {}, "posting": True, "posted": False, "certain": True},
        {"language": "en", "segments": [{"start_ms": 1, "end_ms": 2, "speaker": "n", "text": "t"}]},
    ):  # fmt: skip
        yield b"b" + json.dumps(document).encode()
    task = track_bundle.TrackTask("base", "int8", 1, "en", Hints("p", "h"))
    yield b"t" + json.dumps({"version": 1, **asdict(task), "captures": [[[1, 2, 3]]]}).encode()
    with track_bundle.pack(task, [], directory=_place) as packed:
        yield b"t" + packed.read()
    segment = {"session_id": "s", "start_ms": 1, "end_ms": 2, "text": "t", "language": "en"}
    yield b"t" + json.dumps({"version": 1, "engine": {"a": "b"}, "segments": [segment]}).encode()
    kept = file_manifest.next_line(b"", {"files": [{"name": "a", "size_bytes": 1, "sha256": "00"}]})
    yield b"u" + kept + file_manifest.next_line(kept, {"files": []})
    told = {"format": 1, "files": {backup_file.DATABASE_NAME: {"size_bytes": 0, "sha256": "00"}}}
    yield b"u" + json.dumps(told).encode()
    database, whole = _fresh() / "database", _place / "whole"
    database.write_bytes(b"content")
    backup_file.write(whole, schema="1", members={backup_file.DATABASE_NAME: database})
    yield b"u" + whole.read_bytes()
    yield b"v" + (
        b"WEBVTT\n\n00:00:01.000 --> 00:00:02.500\n<v A>one &amp; two\n\n"
        b"00:02.000 --> 01:00:00.000 align:start\nthree\n"
    )


TARGET = Target(
    parses="MP4 boxes, Ogg pages, captures, journals, bitcask, bundles and backups (tar), JSON books, WebVTT",
    run=_run,
    seeds=_seeds,
    tokens=(
        *(b"moov", b"moof", b"mdat", b"OggS", b"CPJ1", b"WEBVTT\n\n", b" --> ", b"ustar\x0000"),
        *(
            b'"changes":[{"name":"',
            b'"offset":',
            b'"bytes":',
            b'"gone":["',
            b"../",
            b"\\u0000",
            b"\\ud800",
        ),
        *(b"Infinity", b"NaN", b"1e999", b"9" * 400, b"[" * 60, b"null", b"99:99:99.999"),
    ),
    max_bytes=12288,
    ci_inputs=400,
)
