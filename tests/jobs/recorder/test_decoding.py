"""What participants send is decoded in a process of its own, whose end costs a moment of picture."""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from callclient.receive.tracks import Codec
from foundation.logs import configure_logs
from jobs.recorder.compositor import View
from jobs.recorder.decoding import decoder as decoder_module
from jobs.recorder.decoding.decoder import Decoder
from jobs.recorder.decoding.limits import PICTURE_BYTES, SLOTS
from jobs.recorder.inbox import SceneChange
from jobs.recorder.picture_line import PictureLine
from jobs.recorder.scene import Person, Scene, Tile

MS = 1_000_000
ANN = Tile("s-ann", Person("u-ann", "ann"), False, None, False, 0, camera=True)
BEN = Tile("s-ben", Person("u-ben", "ben"), False, None, False, 0, camera=True)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    """One for those tests that do not end it."""
    secret = "AUTH_TOKEN"
    os.environ[secret] = "the-token"
    decoder = Decoder()
    decoder.wake()
    del os.environ[secret]
    yield decoder
    decoder.close()


@pytest.fixture
def own_decoder() -> Iterator[Decoder]:
    decoder = Decoder()
    yield decoder
    decoder.close()


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def logged(capsys: pytest.CaptureFixture[str], event: str) -> bool:
    return event in capsys.readouterr().out


def test_a_frame_comes_back_as_it_was(decoder, vp8) -> None:
    source = vp8(962, 542)  # rows of the decoder are longer
    frames = [source.frame(luma, luma, key=luma == 60).payload for luma in (60, 90, 120)]
    decoded = decoder.decode(1, "ann", [(Codec.VP8, data) for data in frames])
    assert (decoded.taken, decoded.shown, decoded.good, decoded.place) == (3, 3, True, 2)
    picture = decoded.picture.to_ndarray()
    assert picture.shape == (542 * 3 // 2, 962)
    assert np.abs(picture[:542].astype(int) - 120).max() < 8
    assert np.abs(picture[542:].astype(int) - 128).max() < 8


def test_av1_is_decoded_there_too_up_to_the_same_size(decoder, av1) -> None:
    decoded = decoder.decode(4, "ann", [(Codec.AV1, unit) for unit in av1(64, 96)])
    assert (decoded.shown, decoded.good) == (2, True)
    assert np.abs(decoded.picture.to_ndarray().astype(int) - 90).max() < 3
    before = decoder.figures()["media_refused"]
    assert not decoder.decode(5, "ann", [(Codec.AV1, av1(4160, 64, 1)[0])]).good
    assert decoder.figures()["media_refused"] == before + 1


def test_room_for_frames_comes_back_when_nobody_looks_at_them(decoder, vp8) -> None:
    source, held = vp8(64, 64), []
    for number in range(SLOTS + 2):
        frame = source.frame(number, number, key=number == 0)
        held.append(decoder.decode(2, "ann", [(Codec.VP8, frame.payload)]).picture)
    assert [number for number, picture in enumerate(held) if picture is None] == [SLOTS, SLOTS + 1]
    assert decoder.figures()["pictures_dropped"] == 2
    assert held[0].to_ndarray()[0, 0] == pytest.approx(0, abs=20)
    held.clear()
    assert decoder.decode(2, "ann", [(Codec.VP8, source.frame(9, 9).payload)]).picture is not None


def test_the_process_has_neither_token_nor_network_nor_files(decoder) -> None:
    decoder.face(b"")  # it has started
    root = Path(f"/proc/{decoder.process_id}")
    assert (root / "environ").read_bytes() == b"MALLOC_ARENA_MAX=1\0"
    open_files = sorted(os.readlink(entry).split(":")[0] for entry in (root / "fd").iterdir())
    assert open_files == ["/dev/null", "/dev/null", "/dev/null", "/memfd", "socket"]
    status = dict(line.split(":\t") for line in (root / "status").read_text().splitlines())
    assert (status["Seccomp"], status["NoNewPrivs"], status["Threads"]) == ("2", "1", "1")
    limits = (root / "limits").read_text()
    for name in ("Max file size", "Max core file size", "Max processes"):
        assert limits.split(name)[1].split()[:2] == ["0", "0"]


@pytest.mark.parametrize("kept", [True, False])
def test_compiled_modules_are_kept_where_the_recorder_keeps_its_own(
    own_decoder, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.dont_write_bytecode", not kept)
    own_decoder.wake()
    monkeypatch.undo()
    own_decoder.face(b"")  # it has started
    words = Path(f"/proc/{own_decoder.process_id}/cmdline").read_bytes().split(b"\0")
    assert {b"-I", b"-S"} <= set(words)
    assert (b"-B" in words) is not kept


@pytest.mark.parametrize(("kind", "size"), [("PNG", (200, 128)), ("JPEG", (900, 700))])
def test_a_users_picture_becomes_a_small_square(decoder, kind: str, size: tuple[int, int]) -> None:
    side = min(320, *size)
    pixels = np.frombuffer(
        decoder.face(encoded(Image.new("RGB", size, (200, 30, 30)), kind)), np.uint8
    )
    assert len(pixels) == side * side * 3
    assert np.abs(pixels.reshape(-1, 3).astype(int) - (200, 30, 30)).max() < 5


def bomb() -> bytes:
    """20,000 × 20,000 by its header."""
    data = encoded(Image.new("L", (8, 8)))
    header = struct.pack(">II", 20_000, 20_000)
    return data[:16] + header + data[24:]


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(bomb, id="bomb"),
        pytest.param(lambda: encoded(Image.new("L", (4_001, 4_000))), id="pixels"),
        pytest.param(lambda: bytes(PICTURE_BYTES + 1), id="bytes"),
        pytest.param(
            lambda: encoded(
                Image.new("L", (8, 8)),
                "GIF",
                save_all=True,
                append_images=[Image.new("L", (8, 8), 9)],
            ),
            id="animated",
        ),
        pytest.param(lambda: encoded(Image.effect_noise((99, 99), 90))[:-2000], id="truncated"),
        pytest.param(lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', id="svg"),
        pytest.param(lambda: encoded(Image.new("L", (8, 8)), "TIFF"), id="another format"),
    ],
)
def test_hostile_pictures_are_refused_and_the_process_lives(
    decoder, picture: Callable[[], bytes]
) -> None:
    process = decoder.process_id
    assert decoder.face(picture()) == b""
    assert decoder.process_id == process
    assert decoder.figures()["decoder_losses"] == 0


def test_a_frame_that_is_too_large_is_refused_before_it_is_decoded(decoder, vp8) -> None:
    source = vp8(64, 64)
    good = source.frame(50, 0, key=True).payload
    before = decoder.figures()["media_refused"]
    for width, height in ((4098, 64), (2306, 2306), (16_383, 16_383), (0, 64)):
        data = bytearray(good)
        data[6:10] = struct.pack("<HH", width, height)
        decoded = decoder.decode(3, "ann", [(Codec.VP8, bytes(data)), (Codec.VP8, good)])
        assert (decoded.good, decoded.taken, decoded.picture) == (False, 1, None)
    assert decoder.figures()["media_refused"] == before + 4
    assert decoder.decode(3, "ann", [(Codec.VP8, good)]).picture is not None


class Call:
    """Two cameras as the recorder sees them, a second ahead; a key frame comes when it is asked for."""

    def __init__(self, decoder: Decoder, vp8) -> None:
        self.views: list[View] = []
        self.at_ms = 0
        self._written: list[int] = []
        self.line = PictureLine(
            self,
            self,
            frame_rate=20,
            zero_ns=0,
            zero_utc=datetime(2026, 1, 31, tzinfo=UTC),
            decoder=decoder,
        )
        self.line.push(SceneChange(0, Scene((ANN, BEN), 2)))
        self._sources = {"s-ann": vp8(64, 64), "s-ben": vp8(64, 64)}
        self._sent = 0

    def compose(self, view: View) -> None:
        self.views.append(view)

    def write_picture(self, planes: object, *, ticks: int, duration: int) -> None:
        self._written.append(ticks // 90)

    def go_on(self, until_ms: int) -> None:
        """Until the recording is there."""
        while self.at_ms < until_ms:
            wanted = self.line.waiting_for_key_frame()
            for session_id, source in self._sources.items():
                key = self._sent == 0 or session_id in wanted
                frame = source.frame(50 + self._sent % 100, (self.at_ms + 1000) * MS, key=key)
                self.line.push_camera(session_id, session_id, frame)
            self._sent += 1
            self.line.advance(self.at_ms * MS)
            self.at_ms += 100

    def stood_still_ms(self, session_id: str) -> list[tuple[int, bool]]:
        """Per change of that camera's picture: how long the one before was to be seen, and was it marked?"""
        found: list[tuple[int, bool]] = []
        shown, since_ms, marked = None, 0, False
        for at_ms, view in zip(self._written, self.views, strict=True):
            picture = dict(view.cameras).get(session_id)
            if picture is not shown:
                found.append((at_ms - since_ms, marked))
                shown, since_ms, marked = picture, at_ms, False
            marked = marked or view.interrupted
        return found


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_is_killed_or_hangs_costs_two_seconds_of_picture_at_most_and_they_are_marked(
    own_decoder, vp8, fault: signal.Signals
) -> None:
    call = Call(own_decoder, vp8)
    call.go_on(3_000)
    os.kill(own_decoder.process_id, fault)
    call.go_on(7_000)
    for session_id in ("s-ann", "s-ben"):
        *_, longest = sorted(call.stood_still_ms(session_id)[1:])
        assert longest[0] <= 2_000
        assert [marked for ms, marked in call.stood_still_ms(session_id)[1:] if ms > 300] == [True]
    assert not call.views[-1].interrupted
    assert 0 < call.line.interrupted_ns <= 2_000 * MS
    figures = own_decoder.figures()
    assert (figures["decoder_losses"], figures["decoder_starts"]) == (1, 2)


def test_a_process_that_hangs_is_noticed_at_once_and_another_one_goes_on(
    own_decoder, vp8, capsys
) -> None:
    configure_logs()
    frame = (Codec.VP8, vp8(64, 64).frame(50, 0, key=True).payload)
    assert own_decoder.decode(1, "ann", [frame]).good
    first, generation = own_decoder.process_id, own_decoder.generation
    os.kill(first, signal.SIGSTOP)
    assert not own_decoder.decode(1, "ann", [frame]).good
    assert own_decoder.generation == generation + 1
    (lost,) = [line for line in capsys.readouterr().err.splitlines() if "decoder.lost" in line]
    assert json.loads(lost)["reason"] == "hung", "not by the limit of whatever happens"
    assert own_decoder.decode(1, "ann", [frame]).picture is not None
    assert own_decoder.process_id != first


def test_a_process_that_hangs_before_it_has_read_the_question_is_noticed_too(
    own_decoder, vp8, capsys
) -> None:
    configure_logs()
    frame = (Codec.VP8, vp8(64, 64).frame(50, 0, key=True).payload)
    assert own_decoder.decode(1, "ann", [frame]).good
    os.kill(own_decoder.process_id, signal.SIGSTOP)
    assert own_decoder.face(bytes(PICTURE_BYTES)) == b"", "more than the socket holds"
    (lost,) = [line for line in capsys.readouterr().err.splitlines() if "decoder.lost" in line]
    assert json.loads(lost)["reason"] == "hung"


def test_a_process_that_stands_still_for_a_moment_is_waited_for(own_decoder, vp8) -> None:
    source = vp8(64, 64)
    frame = (Codec.VP8, source.frame(50, 0, key=True).payload)
    assert own_decoder.decode(1, "ann", [frame]).good
    process = own_decoder.process_id
    os.kill(process, signal.SIGSTOP)
    threading.Timer(0.15, os.kill, (process, signal.SIGCONT)).start()
    assert own_decoder.decode(1, "ann", [frame]).picture is not None
    assert own_decoder.figures()["decoder_losses"] == 0


class Doomed:
    """A process that one source's frames end."""

    def __init__(self, _: int) -> None:
        self.greeted = True
        self.pid = 1
        self.ended_by_itself = False

    def frames(self, track: int, frames: object, slot: int) -> object:
        if track == 666:
            raise decoder_module.ProcessLost("ended")
        return decoder_module.Answer(decoder_module.Verdict.GOOD, 1, 1, 0, 0, 0)

    def kill(self) -> None:
        pass

    def end(self) -> int:
        return -signal.SIGSEGV


def test_a_source_that_ends_the_process_again_and_again_is_shut_out_and_the_others_are_not(
    own_decoder, monkeypatch
) -> None:
    monkeypatch.setattr(decoder_module, "DecodingProcess", Doomed)
    frame = (Codec.VP8, b"frame")
    for strike in (1, 2, 3):
        assert not own_decoder.shut_out("eve/camera")
        assert not own_decoder.decode(666, "eve/camera", [frame]).good
        assert own_decoder.generation == strike
        assert own_decoder.decode(1, "ann/camera", [frame]).good
    assert own_decoder.shut_out("eve/camera")
    assert not own_decoder.decode(667, "eve/camera", [frame]).good, "by whatever track"
    assert own_decoder.figures()["decoder_losses"] == 3
    assert own_decoder.decode(1, "ann/camera", [frame]).good
    assert own_decoder.figures()["videos_shut_out"] == 1


def test_strikes_that_are_far_apart_do_not_count(own_decoder, monkeypatch) -> None:
    monkeypatch.setattr(decoder_module, "DecodingProcess", Doomed)
    now_s = time.monotonic()
    monkeypatch.setattr(decoder_module.time, "monotonic", lambda: now_s)
    for _ in range(9):
        own_decoder.decode(666, "eve/camera", [(Codec.VP8, b"frame")])
        now_s += 31
    assert not own_decoder.shut_out("eve/camera")


def test_a_source_that_is_shut_out_gives_way_to_its_owners_tile(own_decoder, vp8) -> None:
    call = Call(own_decoder, vp8)
    call.go_on(1_500)
    assert dict(call.views[-1].cameras).keys() == {"s-ann", "s-ben"}
    own_decoder._shut_out.add("s-ben/camera")
    call.go_on(2_500)
    assert dict(call.views[-1].cameras).keys() == {"s-ann"}
    assert call.line.waiting_for_key_frame() == []


def test_a_process_that_had_nothing_to_do_and_ended_is_no_loss(own_decoder, vp8) -> None:
    frame = (Codec.VP8, vp8(64, 64).frame(50, 0, key=True).payload)

    class Gone(Doomed):
        def end(self) -> int:
            return 0

        def frames(self, track: int, frames: object, slot: int) -> object:
            raise decoder_module.ProcessLost("ended")

    own_decoder.wake()
    own_decoder._process.end()
    own_decoder._process = Gone(0)
    assert own_decoder.decode(1, "ann", [frame]).picture is not None
    assert own_decoder.figures()["decoder_losses"] == 0


def test_nothing_is_started_for_voices(own_decoder) -> None:
    line = PictureLine(
        _Frames(),
        _Frames(),
        frame_rate=20,
        zero_ns=0,
        zero_utc=datetime(2026, 1, 31, tzinfo=UTC),
        decoder=own_decoder,
    )
    line.push(SceneChange(0, Scene((replace(ANN, camera=False),), 1)))
    line.advance(1_000 * MS)
    assert own_decoder.figures()["decoder_starts"] == 0


class _Frames:
    def compose(self, view: View) -> None:
        pass

    def write_picture(self, planes: object, *, ticks: int, duration: int) -> None:
        pass
