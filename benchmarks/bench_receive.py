"""What receiving costs a job: CPU ms per second of call, beside stock aiortc in the same run.

Two cases: 8 Opus tracks received, put in order and decoded; 1080p VP8 at 15 frames/s received up to whole
frames, the decoder left out on both sides. The receiver is a process of its own, joined over loopback UDP:
ours to the SFU in this process, aiortc to an aiortc peer here. Its CPU is that of the whole process while
media flows, with SRTP, reports, feedback and timers. One JSON line per case.

    python benchmarks/bench_receive.py [--seconds 10] [--rounds 3]
"""

from __future__ import annotations

import argparse
import asyncio
import fractions
import json
import random
import statistics
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import uvloop

VOICES = 8
FRAMES_PER_S = 15
FRAME_BYTES = 20_000
"""2.4 Mbit/s."""
_DECODE_EVERY_S = 0.05
_WARM_UP_S = 1.5


def opus_packets() -> list[bytes]:
    """Two seconds of something like speech, as a browser encodes it."""
    import av
    import numpy as np

    t = np.arange(96_000) / 48_000
    noise = np.random.default_rng(1).normal(0, 0.02, len(t))
    tone = 0.2 * np.sin(2 * np.pi * (150 * t + 5 * np.sin(4 * t))) * (1 + np.sin(9 * t)) + noise
    encoder: Any = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, "mono", "flt"
    encoder.bit_rate = 32_000
    packets = []
    for start in range(0, len(t), 960):
        block = tone[None, start : start + 960].astype(np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="flt", layout="mono")
        frame.sample_rate, frame.pts = 48_000, start
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return packets


def vp8_frame(number: int) -> bytes:
    """Made up: nobody decodes it."""
    key = number % 300 == 0
    return bytes([0x10 if key else 0x11]) + random.Random(number).randbytes(FRAME_BYTES)


# The receiving process


class Meter:
    """Counts and measures between `begin` and `end`."""

    def __init__(self) -> None:
        self.frames = 0
        self._cpu_s = self._wall_s = 0.0
        self._frames = 0

    def begin(self) -> None:
        self._cpu_s, self._wall_s, self._frames = time.process_time(), time.monotonic(), self.frames

    def end(self) -> dict[str, float]:
        wall_s = time.monotonic() - self._wall_s
        return {
            "cpu_ms_per_s": round((time.process_time() - self._cpu_s) * 1000 / wall_s, 1),
            "frames_per_s": round((self.frames - self._frames) / wall_s, 1),
        }


class Decoding:
    """One thread for all voices, as the recorder has it."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._waiting: deque[tuple[str, Any]] = deque(maxlen=10_000)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def put(self, track_id: str, frame: Any) -> None:
        self._waiting.append((track_id, frame))

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        from callclient.receive.opus_decoder import OpusDecoder

        decoders: dict[str, OpusDecoder] = {}
        while not self._stopping.wait(_DECODE_EVERY_S):
            while self._waiting:
                track_id, frame = self._waiting.popleft()
                decoder = decoders.get(track_id)
                if decoder is None:
                    decoder = decoders[track_id] = OpusDecoder()
                decoder.decode(frame.payload)
                self._meter.frames += 1


async def our_receiver(case: str, meter: Meter, pipe: Pipe) -> None:
    from callclient.events import TrackAdded
    from callclient.media import CallMedia

    readers: set[asyncio.Task[None]] = set()
    decoding = Decoding(meter) if case == "voices" else None

    async def read(track: Any) -> None:
        async for frame in track.frames():
            if decoding is not None:
                decoding.put(track.track_id, frame)
            else:
                meter.frames += 1

    def emit(event: Any) -> None:
        if isinstance(event, TrackAdded):
            readers.add(asyncio.ensure_future(read(event.track)))

    media = CallMedia(
        own_session_id="receiver",
        send_description=lambda kind, sdp: pipe.send({"type": kind, "sdp": sdp}),
        emit=emit,
        connect_timeout_s=10,
    )
    running = asyncio.ensure_future(media.run())
    await media.offer()

    def handle(message: dict[str, Any]) -> None:
        if "candidate" in message:
            task = asyncio.ensure_future(media.candidate_received(message["candidate"]))
            readers.add(task)
        else:
            media.description_received(message["type"], message["sdp"])

    try:
        await measured(meter, pipe, handle)
    finally:
        running.cancel()
        await asyncio.wait([running])
        await media.close()
        if decoding is not None:
            decoding.stop()


async def stock_receiver(case: str, meter: Meter, pipe: Pipe) -> None:
    import aiortc
    from aiortc import rtcrtpreceiver

    if case == "screen":

        class Nothing:
            """In the decoder's place."""

            def decode(self, frame: Any) -> list[Any]:
                meter.frames += 1
                return []

        module: Any = rtcrtpreceiver
        module.get_decoder = lambda codec: Nothing()
    peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
    readers: set[asyncio.Task[None]] = set()

    async def read(track: Any) -> None:
        with suppress(aiortc.mediastreams.MediaStreamError):
            while True:
                await track.recv()
                meter.frames += 1

    peer.on("track", lambda track: readers.add(asyncio.ensure_future(read(track))))

    async def answer(message: dict[str, Any]) -> None:
        await peer.setRemoteDescription(aiortc.RTCSessionDescription(message["sdp"], "offer"))
        await peer.setLocalDescription(await peer.createAnswer())
        pipe.send({"type": "answer", "sdp": peer.localDescription.sdp})

    def handle(message: dict[str, Any]) -> None:
        readers.add(asyncio.ensure_future(answer(message)))

    try:
        await measured(meter, pipe, handle)
    finally:
        await peer.close()


async def measured(meter: Meter, pipe: Pipe, handle: Callable[[dict[str, Any]], None]) -> None:
    """Handle what comes through the pipe; answer `begin` and `end`."""
    async for message in pipe.messages():
        match message["type"]:
            case "begin":
                meter.begin()
            case "end":
                pipe.send({"type": "result", **meter.end()})
                return
            case _:
                handle(message)


# The sending process


async def paced(interval_s: float, send: Callable[[int], None]) -> None:
    start = asyncio.get_running_loop().time()
    number = 0
    while True:
        send(number)
        number += 1
        await asyncio.sleep(
            max(0.0, start + number * interval_s - asyncio.get_running_loop().time())
        )


async def our_sender(case: str, seconds: float, pipe: Pipe) -> dict[str, Any]:
    from callclient.media import CallMedia
    from rtc import calls_dc, vp8
    from rtc.sdp import Msid
    from rtc.sections import LocalMedia
    from sfu.media_port import SessionConfig
    from sfu.messages import Rtc, RtcMessage, RtcType
    from sfu.server import SfuServer

    server = SfuServer(bind_addresses=["127.0.0.1"], udp_port=0, connect_timeout_s=10)
    await server.start()
    tasks: set[asyncio.Future[Any]] = set()
    medias = []

    def tell(session_id: str, kind: RtcType, value: Any) -> None:
        data = json.dumps(value).encode()
        message = RtcMessage(kind, session_id, data)
        tasks.add(asyncio.ensure_future(server.handle(session_id, message)))

    def to_receiver(message: Any) -> None:
        if isinstance(message, Rtc) and message.message.type is RtcType.SDP:
            pipe.send(json.loads(message.message.data))
        elif isinstance(message, Rtc) and message.message.type is RtcType.ICE:
            line = json.loads(message.message.data)["candidate"]["candidate"]
            pipe.send({"type": "candidate", "candidate": line})

    def publisher(number: int) -> CallMedia:
        name = f"publisher{number}".ljust(26, "x")
        media = CallMedia(
            own_session_id=name,
            send_description=lambda kind, sdp: tell(name, RtcType.SDP, {"type": kind, "sdp": sdp}),
            emit=lambda event: None,
            connect_timeout_s=10,
        )
        medias.append((name, media))
        return media

    await server.join(
        SessionConfig("group", "call", "user", "receiver".ljust(26, "x")), to_receiver
    )
    tasks.add(
        asyncio.ensure_future(
            _forward(pipe, lambda m: tell("receiver".ljust(26, "x"), RtcType.SDP, m))
        )
    )
    packets = opus_packets()
    kind: Any = "audio" if case == "voices" else "video"
    for number in range(VOICES if case == "voices" else 1):
        media = publisher(number)
        name = medias[-1][0]

        def from_server(message: Any, media: CallMedia = media) -> None:
            if isinstance(message, Rtc) and message.message.type is RtcType.SDP:
                media.description_received(*calls_dc.read_sdp_json(message.message.data))

        await server.join(SessionConfig("group", "call", "user", name), from_server)
        tasks.add(asyncio.ensure_future(media.run()))
        await media.offer()
        await asyncio.wait_for(media.ready.wait(), 10)
        stream_id = f"stream{number}"
        if case == "screen":
            tell(name, RtcType.SCREEN_ON, {"screenStreamID": stream_id})
            await asyncio.sleep(0.1)
        local = LocalMedia(Msid(stream_id, f"track{number}"), 1000 + number, name)
        track = await media.publish(kind, local)

        def send_packet(n: int, track: Any = track) -> None:
            track.send(packets[n % len(packets)], rtp_timestamp=n * 960, marker=False)

        def send_frame(n: int, track: Any = track) -> None:
            payloads = vp8.packetize(vp8_frame(n), picture_id=n)
            for index, payload in enumerate(payloads):
                track.send(payload, rtp_timestamp=n * 6000, marker=index == len(payloads) - 1)

        send = send_packet if case == "voices" else send_frame
        interval_s = 0.02 if case == "voices" else 1 / FRAMES_PER_S
        tasks.add(asyncio.ensure_future(paced(interval_s, send)))
    try:
        return await _result(seconds, pipe)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for _, media in medias:
            await media.close()
        await server.close()


async def stock_sender(case: str, seconds: float, pipe: Pipe) -> dict[str, Any]:
    import aiortc
    import av

    packets = opus_packets() if case == "voices" else []

    class Source(aiortc.MediaStreamTrack):
        kind = "audio" if case == "voices" else "video"

        def __init__(self) -> None:
            super().__init__()
            self._number = 0
            self._start = 0.0

        async def recv(self) -> Any:
            interval_s = 0.02 if case == "voices" else 1 / FRAMES_PER_S
            now = asyncio.get_running_loop().time()
            self._start = self._start or now
            n = self._number
            self._number += 1
            await asyncio.sleep(max(0.0, self._start + n * interval_s - now))
            packet = av.Packet(packets[n % len(packets)] if packets else vp8_frame(n))
            packet.pts = n * (960 if packets else 6000)
            packet.time_base = fractions.Fraction(1, 48_000 if packets else 90_000)
            return packet

    peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
    for _ in range(VOICES if case == "voices" else 1):
        peer.addTrack(Source())
    if case == "screen":
        vp8_only = [
            codec
            for codec in aiortc.RTCRtpSender.getCapabilities("video").codecs
            if codec.mimeType == "video/VP8"
        ]
        peer.getTransceivers()[0].setCodecPreferences(vp8_only)
    await peer.setLocalDescription(await peer.createOffer())
    pipe.send({"type": "offer", "sdp": peer.localDescription.sdp})

    async def answered(message: dict[str, Any]) -> None:
        await peer.setRemoteDescription(aiortc.RTCSessionDescription(message["sdp"], "answer"))

    tasks: set[asyncio.Future[Any]] = set()
    tasks.add(
        asyncio.ensure_future(
            _forward(pipe, lambda m: tasks.add(asyncio.ensure_future(answered(m))))
        )
    )
    try:
        return await _result(seconds, pipe)
    finally:
        for task in tasks:
            task.cancel()
        await peer.close()


async def _forward(pipe: Pipe, handle: Callable[[dict[str, Any]], Any]) -> None:
    async for message in pipe.messages():
        if message["type"] == "result":
            pipe.result.set_result(message)
        else:
            handle(message)


async def _result(seconds: float, pipe: Pipe) -> dict[str, Any]:
    await asyncio.sleep(_WARM_UP_S)
    pipe.send({"type": "begin"})
    await asyncio.sleep(seconds)
    pipe.send({"type": "end"})
    return await asyncio.wait_for(pipe.result, 10)


class Pipe:
    """JSON lines."""

    def __init__(self, reader: asyncio.StreamReader, write: Callable[[bytes], Any]) -> None:
        self._reader, self._write = reader, write
        self.result: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    def send(self, message: dict[str, Any]) -> None:
        self._write(json.dumps(message).encode() + b"\n")

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        while line := await self._reader.readline():
            yield json.loads(line)


@asynccontextmanager
async def receiver(case: str, side: str) -> AsyncIterator[Pipe]:
    """The other process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--receive", case, "--side", side,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 20,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Pipe(process.stdout, process.stdin.write)
    finally:
        process.stdin.close()
        await asyncio.wait_for(process.wait(), 10)


async def receive(case: str, side: str) -> None:
    """What the other process does."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    out = sys.stdout.buffer

    def write(line: bytes) -> None:
        out.write(line)
        out.flush()

    work: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
        "ours": our_receiver,
        "aiortc": stock_receiver,
    }
    await work[side](case, Meter(), Pipe(reader, write))


async def compare(case: str, seconds: float, rounds: int) -> dict[str, Any]:
    senders = {"ours": our_sender, "aiortc": stock_sender}
    measured: dict[str, list[dict[str, Any]]] = {"ours": [], "aiortc": []}
    for _ in range(rounds):
        for side, send in senders.items():  # by turns: the machine's other load is shared
            async with receiver(case, side) as pipe:
                measured[side].append(await send(case, seconds, pipe))
    middle = {
        side: statistics.median(one["cpu_ms_per_s"] for one in results)
        for side, results in measured.items()
    }
    return {
        "case": case,
        "ours_cpu_ms_per_s": middle["ours"],
        "aiortc_cpu_ms_per_s": middle["aiortc"],
        "ratio": round(middle["ours"] / middle["aiortc"], 2),
        "frames_per_s": {side: results[-1]["frames_per_s"] for side, results in measured.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--receive", choices=("voices", "screen"), help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=("ours", "aiortc"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.receive:
        import structlog

        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
        uvloop.run(receive(given.receive, given.side))
        return
    for case in ("voices", "screen"):
        result = uvloop.run(compare(case, given.seconds, given.rounds))
        print(json.dumps(result))


if __name__ == "__main__":
    main()
