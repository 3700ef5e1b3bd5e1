"""The SFU's forwarding path alone: microseconds of CPU per packet that goes out, at 1 to 200 receivers.

One JSON line per case. A published packet is decrypted, read (statistics, audio level, congestion numbers,
NACK history for video) and encrypted for each receiver, and leaves through a UDP socket; another process
really reads. What a whole server spends besides, on pings, reports and wake-ups, is in `bench_sfu.py`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import socket
import time
from multiprocessing.queues import Queue

from rtc.fanout import Egress, Outlet
from rtc.rtp import build_rtp
from rtc.sections import Section
from rtc.srtp import PROFILES, SrtpContext
from rtc.transport_cc import FeedbackBuilder
from sfu.forwarding.down_track import DownTrack
from sfu.forwarding.encoding import Encoding
from sfu.forwarding.layers import Layer
from sfu.forwarding.tracks import TrackType, UpTrack
from sfu.forwarding.voice_activity import VoiceActivity

_FRAME_NS = 20_000_000
_FEEDBACK_EVERY = 5
_QUIET_S = 1.0
_LEVEL_ID, _NUMBER_ID = 1, 5
_BUFFER_BYTES = 16 * 1024 * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packets", type=int, default=140_000, help="that go out, in each case")
    options = parser.parse_args()
    for kind, payload_bytes, counts in (
        ("voice", 100, (1, 7, 20, 50, 200)),
        ("screen", 1150, (10,)),
    ):
        for receivers in counts:
            print(json.dumps(_case(kind, payload_bytes, receivers, options.packets)), flush=True)


def _case(kind: str, payload_bytes: int, receivers: int, packets: int) -> dict[str, object]:
    ports: Queue[int] = multiprocessing.Queue()
    counts: Queue[int] = multiprocessing.Queue()
    reader = multiprocessing.Process(target=_read, args=(ports, counts))
    reader.start()
    feedback = FeedbackBuilder(sender_ssrc=1)
    encoding, keys = _published(kind, receivers, ports.get(), feedback)
    incoming = SrtpContext(PROFILES[0], bytes(28), "inbound")
    published = _packets(kind, payload_bytes, packets // receivers)
    now_ns = time.monotonic_ns()
    started_s = time.process_time()
    for number, packet in enumerate(published):
        plain = incoming.unprotect_rtp(packet)
        assert plain is not None
        encoding.receive(plain, now_ns + number * _FRAME_NS)
        if number % _FEEDBACK_EVERY == 0:
            feedback.build()
    cpu_s = time.process_time() - started_s
    reader.join()
    out = len(published) * receivers
    assert len(keys) == receivers
    return {
        "bench": "fanout",
        "case": f"{kind}, {receivers} receivers",
        "cpu_us_per_packet": round(cpu_s / out * 1e6, 2),
        "packets_per_cpu_s": round(out / cpu_s),
        "read_of_sent": round(counts.get() / out, 4),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
    }


def _published(
    kind: str, receivers: int, port: int, feedback: FeedbackBuilder
) -> tuple[Encoding, list[SrtpContext]]:
    """A published track and its receivers, who share one socket but no key."""
    is_voice = kind == "voice"
    activity = VoiceActivity()
    track = UpTrack(
        session_id="s" * 26,
        stream_id="stream",
        type_=TrackType.VOICE if is_voice else TrackType.SCREEN,
        codec="opus" if is_voice else "VP8",
    )
    encoding = Encoding(
        track,
        ssrc=5,
        payload_type=111,
        rid="",
        level_id=_LEVEL_ID,
        number_id=_NUMBER_ID,
        history_packets=256,
        feedback=feedback,
        on_level=lambda level, now_ns: (activity.push(level, now_ns), None)[1],
        request_key_frame=lambda ssrc: None,
    )
    track.encodings[""] = encoding
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.setblocking(False)
    keys = []
    for index in range(receivers):
        egress = Egress()
        context = SrtpContext(PROFILES[0], os.urandom(PROFILES[0].material_bytes), "outbound")
        keys.append(context)
        egress.srtp, egress.send, egress.address = context.handle, out.sendto, ("127.0.0.1", port)
        outlet = Outlet(egress, ssrc=1000 + index, payload_type=111)
        outlet.use(
            payload_type=111,
            transport_cc_id=_NUMBER_ID,
            level_id=_LEVEL_ID if is_voice else None,
        )
        section = Section(kind=track.kind, mid=str(index))
        track.add_down(DownTrack(up=track, section=section, outlet=outlet, layer=Layer.LOW))
    return encoding, keys


def _packets(kind: str, payload_bytes: int, count: int) -> list[bytes]:
    """As they come from a publisher, encrypted."""
    outgoing = SrtpContext(PROFILES[0], bytes(28), "outbound")
    payload = os.urandom(payload_bytes)
    packets = []
    for number in range(count):
        packet = outgoing.protect_rtp(
            build_rtp(
                payload,
                payload_type=111,
                sequence=number & 0xFFFF,
                timestamp=number * 960,
                ssrc=5,
                extensions=(
                    (_LEVEL_ID, bytes([number % 100])),
                    (_NUMBER_ID, (number & 0xFFFF).to_bytes(2)),
                ),
            )
        )
        assert packet is not None
        packets.append(packet)
    return packets


def _read(ports: Queue[int], counts: Queue[int]) -> None:
    """Another process: reads until nothing comes any more."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        sock.bind(("127.0.0.1", 0))
        ports.put(sock.getsockname()[1])
        sock.settimeout(None)
        buffer = bytearray(2048)
        sock.recv_into(buffer)
        sock.settimeout(_QUIET_S)
        count = 1
        try:
            while True:
                sock.recv_into(buffer)
                count += 1
        except TimeoutError:
            counts.put(count)


if __name__ == "__main__":
    main()
