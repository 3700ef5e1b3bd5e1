"""Opus as the bots need it: whole 20 ms packets at 48 kHz mono, from files or from samples."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from rtc.opus import packet_samples

RATE_HZ: Final = 48_000
PACKET_SAMPLES: Final = 960
"""20 ms, what every WebRTC client sends."""
BIT_RATE: Final = 24_000
_LOOK_AHEAD_SAMPLES: Final = 312
"""libopus delays by this much (`skip` of the encoder); receivers of RTP do not skip it, so we cut it."""

Samples = NDArray[np.float32]
"""Mono, ±1."""


def encode_opus(samples: Samples) -> list[bytes]:
    """20 ms packets of `samples` at 48 kHz; sample n of the input is sample n of the decoded sound."""
    context = av.CodecContext.create("libopus", "w")
    assert isinstance(context, av.AudioCodecContext)
    context.sample_rate = RATE_HZ
    context.layout = "mono"
    context.format = "flt"
    context.bit_rate = BIT_RATE
    context.options = {"frame_duration": "20", "application": "audio"}
    wanted = -(-len(samples) // PACKET_SAMPLES)
    padded = np.zeros((wanted + 2) * PACKET_SAMPLES, np.float32)
    kept = samples[_LOOK_AHEAD_SAMPLES:]
    padded[: len(kept)] = kept
    packets: list[bytes] = []
    for position in range(0, len(padded), PACKET_SAMPLES):
        block = padded[position : position + PACKET_SAMPLES]
        packets += [bytes(packet) for packet in context.encode(_frame(block, position))]
    return packets[:wanted]


def decode_opus(packets: Iterable[bytes]) -> Samples:
    """What a receiver hears: every packet decoded, nothing skipped, 48 kHz."""
    context = av.CodecContext.create("libopus", "r")
    assert isinstance(context, av.AudioCodecContext)
    context.sample_rate = RATE_HZ
    context.layout = "mono"
    blocks = [_mono(frame) for packet in packets for frame in context.decode(av.Packet(packet))]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def read_packets(path: Path) -> list[bytes] | None:
    """The packets of an Ogg Opus file as they are; None when they cannot be sent as they are.

    Only mono 20 ms packets can. Raises `av.FFmpegError` when the file cannot be read.
    """
    with av.open(str(path)) as container:
        stream = container.streams.audio[0] if container.streams.audio else None
        if stream is None or stream.codec_context.name not in ("opus", "libopus"):
            return None
        packets = [bytes(packet) for packet in container.demux(stream) if packet.size]
        mono = stream.codec_context.layout.nb_channels == 1
    usable = mono and all(packet_samples(packet) == PACKET_SAMPLES for packet in packets)
    return packets if usable else None


def read_samples(path: Path) -> Samples:
    """Any audio file as 48 kHz mono. Raises `av.FFmpegError` when it cannot be read."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
    blocks: list[Samples] = []
    with av.open(str(path)) as container:
        if not container.streams.audio:
            raise av.error.InvalidDataError(0, "no audio stream in it", str(path))
        for frame in container.decode(container.streams.audio[0]):
            blocks += [_mono(part) for part in resampler.resample(frame)]
    blocks += [_mono(part) for part in resampler.resample(None)]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def write_opus(path: Path, samples: Samples) -> None:
    """An Ogg Opus file of `samples` at 48 kHz in 20 ms packets."""
    with av.open(str(path), "w", format="ogg") as container:
        options = {"frame_duration": "20", "application": "audio"}
        stream: Any = container.add_stream("libopus", rate=RATE_HZ, layout="mono", options=options)
        stream.bit_rate = BIT_RATE
        kept = samples[_LOOK_AHEAD_SAMPLES:]
        padded = np.zeros(-(-len(kept) // PACKET_SAMPLES) * PACKET_SAMPLES, np.float32)
        padded[: len(kept)] = kept
        for position in range(0, len(padded), PACKET_SAMPLES):
            frame = _frame(padded[position : position + PACKET_SAMPLES], position)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def resample(samples: Samples, rate_hz: int, *, to_hz: int = RATE_HZ) -> Samples:
    """`samples` at another rate."""
    if rate_hz == to_hz:
        return samples
    resampler = av.AudioResampler(format="flt", layout="mono", rate=to_hz)
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(samples[None, :]), format="flt", layout="mono"
    )
    frame.sample_rate = rate_hz
    parts = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([_mono(part) for part in parts])


def _frame(block: Samples, position: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(block[None, :]), format="flt", layout="mono"
    )
    frame.sample_rate = RATE_HZ
    frame.pts = position
    return frame


def _mono(frame: av.AudioFrame) -> Samples:
    """The first channel as ±1 floats, whatever the frame's format."""
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    channel = values[0]
    samples: Samples = channel.astype(np.float32)
    return samples / np.float32(32768) if channel.dtype == np.int16 else samples
