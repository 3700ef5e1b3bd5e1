"""What the network lost is concealed or repaired, live and from the capture alike, and shifts nothing."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from callclient.receive.latency import CAPTIONS, RECORDING
from callclient.receive.tracks import EncodedFrame
from foundation.clock import ManualClock
from jobs.transcriber import job as job_module
from jobs.transcriber.audio import RATE_HZ, VoiceDecoder, read_samples
from jobs.transcriber.capture import (
    INDEX_SUFFIX,
    CapturedTrack,
    TrackCapture,
    TrackIdentity,
    VoicePacket,
)
from jobs.transcriber.listening import Ear, UtteranceEnded
from jobs.transcriber.live import LiveListener, LiveVoice
from jobs.transcriber.vad import load_silero
from rtc.opus import has_redundancy

IDENTITY = TrackIdentity("track", "session", "user")
PACKET_NS = 20_000_000
MS = 1_000_000


def _losing(packets: list[VoicePacket], lost: set[int]) -> list[VoicePacket]:
    """What the receive path makes of it when the packets of these numbers do not come."""
    kept: list[VoicePacket] = []
    lost_ns = 0
    for number, packet in enumerate(packets):
        if number in lost:
            lost_ns += packet.duration_ns
            continue
        repairs = bool(lost_ns) and has_redundancy(packet.payload)
        kept.append(replace(packet, lost_ns=lost_ns, repairs_loss=repairs))
        lost_ns = 0
    return kept


def _with_redundancy(samples: np.ndarray) -> list[VoicePacket]:
    """48 kHz mono to packets of which each holds the one before too."""
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, "mono", "flt"
    encoder.bit_rate = 32_000
    encoder.options = {
        "frame_duration": "20",
        "application": "voip",
        "fec": "1",
        "packet_loss": "20",
    }
    packets: list[VoicePacket] = []
    for begin in range(0, len(samples) - 960, 960):
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples[None, begin : begin + 960]), format="flt", layout="mono"
        )
        frame.sample_rate, frame.pts = 48_000, begin
        for packet in encoder.encode(frame):
            packets.append(VoicePacket(bytes(packet), len(packets) * PACKET_NS, PACKET_NS))
    return packets


def _write(path: Path, packets: list[VoicePacket], *, flush_every: int = 50) -> CapturedTrack:
    capture = TrackCapture(path, IDENTITY)
    for number, packet in enumerate(packets, start=1):
        capture.add(packet)
        if number % flush_every == 0:
            capture.flush()
    capture.flush()
    return CapturedTrack(path)


@pytest.fixture
def speech(clips) -> np.ndarray:
    """Alice at 48 kHz."""
    with av.open(str(clips["alice"].path)) as container:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=48_000)
        blocks = [
            part.to_ndarray()[0]
            for frame in container.decode(container.streams.audio[0])
            for part in resampler.resample(frame)
        ]
    return np.concatenate(blocks).astype(np.float32)


@pytest.mark.parametrize("flush_every", [1, 7, 10_000])
def test_a_capture_remembers_what_was_lost_before_which_packet(
    clips, tmp_path: Path, flush_every: int
) -> None:
    packets = _losing(clips["bob"].packets(), {7, 50, 51, 52, 199})
    packets[30] = replace(packets[30], lost_ns=5 * MS, repairs_loss=True)  # without a jump of time
    captured = _write(tmp_path / "a.ogg", packets, flush_every=flush_every)
    assert list(captured.packets()) == packets
    middle = [p for p in packets if p.end_ns > 990 * MS and p.heard_ns < 1060 * MS]
    assert list(captured.packets(start_ns=990 * MS, end_ns=1060 * MS)) == middle


def test_captures_from_before_the_marks_are_read_as_they_were(clips, tmp_path: Path) -> None:
    packets = _losing(clips["bob"].packets(), {50})
    captured = _write(tmp_path / "a.ogg", packets)
    index = tmp_path / f"a.ogg{INDEX_SUFFIX}"
    head, *lines = index.read_text().splitlines()
    assert any(len(json.loads(line)) == 5 for line in lines)
    index.write_text("\n".join([head, *(json.dumps(json.loads(x)[:3]) for x in lines)]) + "\n")
    unmarked = [replace(packet, lost_ns=0, repairs_loss=False) for packet in packets]
    assert list(CapturedTrack(captured.path).packets()) == unmarked


def test_a_lost_packet_is_repaired_from_the_copy_in_the_next(speech, tmp_path: Path) -> None:
    packets = _with_redundancy(speech)
    lost = set(range(40, len(packets) - 10, 10))
    whole = VoiceDecoder().decode(packets)
    repaired = VoiceDecoder().decode(_losing(packets, lost))
    unmarked = [replace(p, lost_ns=0, repairs_loss=False) for p in _losing(packets, lost)]
    captured = _write(tmp_path / "a.ogg", unmarked)
    skipped = read_samples(captured, start_ns=0, end_ns=packets[-1].end_ns)
    assert len(repaired) == len(whole)

    def damage(samples: np.ndarray) -> float:
        """Energy of the error over that of the speech, in the lost packets."""
        holes = [slice(n * RATE_HZ // 50, (n + 1) * RATE_HZ // 50) for n in sorted(lost)]
        error = sum(float(np.square(samples[h] - whole[h]).sum()) for h in holes)
        return error / sum(float(np.square(whole[h]).sum()) for h in holes)

    assert damage(skipped) > 0.5, "nothing stands where nothing came"
    assert damage(repaired) < 0.3


def test_what_has_no_copy_goes_on_like_the_sound_before_it(clips) -> None:
    packets = clips["alice"].packets()
    blocks = VoiceDecoder().decode(packets)[: len(packets) * 320 - 320].reshape(-1, 320)
    loud = np.sqrt(np.mean(blocks**2, axis=1)) > 0.05
    lost = next(n for n in range(20, len(loud)) if loud[n - 3 : n + 1].all())
    concealed = VoiceDecoder().decode(_losing(packets[: lost + 2], {lost}))
    before, hole = concealed[(lost - 1) * 320 : (lost + 1) * 320].reshape(2, 320)
    assert np.sqrt(np.mean(hole**2)) > 0.5 * np.sqrt(np.mean(before**2))


def test_the_sound_read_from_a_capture_is_what_was_heard_live(clips, tmp_path: Path) -> None:
    packets = _losing(clips["carol"].packets(), set(range(13, 600, 17)))
    captured = _write(tmp_path / "a.ogg", packets)
    live = VoiceDecoder().decode(packets)
    read = read_samples(captured, start_ns=0, end_ns=packets[-1].end_ns)
    assert np.array_equal(live, read[: len(live)])


def test_losses_in_a_sentence_neither_end_nor_shift_it(clips) -> None:
    clip = clips["carol"]
    ear = Ear(load_silero())
    packets = _losing(clip.packets(), set(range(13, 600, 10)) | set(range(14, 600, 30)))
    ended = [
        event for event in [*ear.hear(packets), *ear.close()] if isinstance(event, UtteranceEnded)
    ]
    assert len(ended) == len(clip.sentences)
    for utterance, sentence in zip(ended, clip.sentences, strict=True):
        assert utterance.onset_ns / 1e9 == pytest.approx(sentence.start_s, abs=0.12)
        assert utterance.end_ns / 1e9 == pytest.approx(sentence.end_s, abs=0.15)


def test_a_loss_of_many_seconds_is_a_pause_and_costs_no_memory(clips) -> None:
    packet = replace(clips["bob"].packets()[50], lost_ns=3600 * 1_000_000_000)
    assert packet.heard_ns == packet.call_ns
    assert len(VoiceDecoder().decode([packet])) <= RATE_HZ // 50


def test_a_broken_packet_with_losses_before_it_keeps_its_length(clips) -> None:
    packets = clips["alice"].packets()[:100]
    packets[60] = VoicePacket(b"\xff\xff\xff", packets[60].call_ns, PACKET_NS, 2 * PACKET_NS)
    decoder = VoiceDecoder()
    decoded = decoder.decode([*packets[:58], *packets[60:]])
    assert decoder.packets_broken == 1
    assert len(decoded) == pytest.approx(100 * RATE_HZ // 50, abs=20)


async def test_the_marks_of_the_receive_path_reach_the_capture(clips, peer, tmp_path: Path) -> None:
    packets = _losing(clips["bob"].packets()[:60], {0, 1, 30})
    packets[0] = replace(packets[0], lost_ns=60 * MS)  # that began before the recording
    track = peer.add_voice("bob")
    capture = TrackCapture(tmp_path / "a.ogg", IDENTITY)
    voice = LiveVoice(track, capture, lambda: Ear(load_silero()))
    for packet in packets:
        track.deliver(
            EncodedFrame(
                packet.payload,
                peer.zero_ns + packet.call_ns,
                packet.duration_ns,
                keyframe=True,
                lost_before=int(packet.lost_ns > 0),
                lost_ns=packet.lost_ns,
                repairs_loss=packet.repairs_loss,
            )
        )
    track.end()
    async with asyncio.timeout(25):
        await voice.read(zero_ns=peer.zero_ns)
    capture.flush()
    first = replace(packets[0], lost_ns=0, repairs_loss=False)
    assert list(CapturedTrack(capture.path).packets()) == [first, *packets[1:]]


@pytest.mark.parametrize(("latency", "ends"), [(CAPTIONS, True), (RECORDING, False)])
async def test_a_sentence_stays_open_while_packets_may_still_be_held_back(
    clips, peer, tmp_path: Path, latency, ends: bool
) -> None:
    clock = ManualClock()
    clock.advance(seconds=(peer.zero_ns - clock.monotonic_ns()) / 1e9)
    ended: list[UtteranceEnded] = []
    with ThreadPoolExecutor(1) as pool:
        listener = LiveListener(
            clock=clock,
            zero_ns=peer.zero_ns,
            executor=pool,
            on_event=lambda _, event: (
                ended.append(event) if isinstance(event, UtteranceEnded) else None
            ),
            latency=latency,
        )
        track = peer.add_voice("bob")
        voice = LiveVoice(
            track, TrackCapture(tmp_path / "a.ogg", IDENTITY), lambda: Ear(load_silero())
        )
        listener.add(voice)
        reading = asyncio.create_task(voice.read(zero_ns=peer.zero_ns))
        peer.say(track, clips["bob"].packets()[:50])
        for _ in range(20):  # until 1 s after the last packet
            clock.advance(seconds=0.1)
            await asyncio.sleep(0)
            await listener._tick()
        assert bool(ended) is ends
        track.end()
        await reading


@pytest.mark.parametrize(("captions_on", "latency"), [(True, CAPTIONS), (False, RECORDING)])
def test_without_captions_the_receive_path_may_wait_for_late_packets(
    monkeypatch, tmp_path: Path, captions_on: bool, latency
) -> None:
    configured = []
    monkeypatch.setattr(job_module, "CallClient", configured.append)
    settings = job_module.TranscriberSettings(
        site_url="http://127.0.0.1:8065",
        call_id="c" * 26,
        post_id="p" * 26,
        job_id="t" * 26,
        auth_token="s" * 26,
        data_dir=tmp_path,
        models_dir=tmp_path,
        live_captions_on=captions_on,
    )

    class Context:
        pass

    job_module.TranscriberJob(Context(), settings)
    assert [config.latency for config in configured] == [latency]
