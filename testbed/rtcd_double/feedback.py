"""RTCP of a receiver: key frames passed on, packets repeated, layers switched (rtcd.md 3.7, 3.8)."""

from __future__ import annotations

import struct

from testbed.rtcd_double import packets
from testbed.rtcd_double.book import Book
from testbed.rtcd_double.call import Call
from testbed.rtcd_double.layers import Layer, LayerChoice
from testbed.rtcd_double.signaling import Signaling
from testbed.rtcd_double.tracks import Published, TrackType

_RECEIVER_REPORT = 201


class Feedback:
    """One receiver's."""

    def __init__(
        self, *, call: Call, book: Book, signaling: Signaling, layers: LayerChoice
    ) -> None:
        self._call = call
        self._book = book
        self._signaling = signaling
        self._layers = layers

    def received(self, compound: bytes, now_ns: int) -> None:
        """A compound packet; what cannot be read is skipped. FIR is announced, but not understood."""
        for kind, form, body in packets.rtcp_parts(compound):
            if kind == _RECEIVER_REPORT:
                self._book.receiver_reports += 1
            elif kind == packets.RTCP_PAYLOAD_FEEDBACK and form == packets.PLI and len(body) >= 8:
                self._key_frame_wanted(struct.unpack_from("!I", body, 4)[0])
            elif kind == packets.RTCP_FEEDBACK and form == packets.NACK and len(body) >= 8:
                self._packets_wanted(body[: 8 + (len(body) - 8) // 4 * 4])
            elif kind == packets.RTCP_FEEDBACK and form == packets.TRANSPORT_CC and len(body) >= 16:
                received, lost = packets.transport_feedback(body)
                self._book.transport_feedback += 1
                self._layers.reported(received=received, lost=lost)
                self._choose_layer(now_ns)

    def _key_frame_wanted(self, ssrc: int) -> None:
        self._book.key_frame_requests += 1
        outgoing = self._signaling.by_ssrc(ssrc)
        if outgoing is not None:
            self._call.request_key_frame(outgoing.published)

    def _packets_wanted(self, body: bytes) -> None:
        ssrc, sequences = packets.nacked(body)
        self._book.nacks += sequences
        outgoing = self._signaling.by_ssrc(ssrc)
        if outgoing is not None:
            outgoing.repeat(sequences)

    def _choose_layer(self, now_ns: int) -> None:
        for track, other in self._layered_screens():
            current: Layer = "h" if track.rid == "h" else "l"
            wanted = self._layers.wanted(
                current,
                current_bps=track.rate.rate_bps(now_ns),
                other_bps=other.rate.rate_bps(now_ns),
                now_ns=now_ns,
            )
            if wanted != current:
                self._switch(track, other, now_ns)

    def switch_layer(self, now_ns: int) -> None:
        """Whatever the estimate says."""
        for track, other in self._layered_screens():
            self._switch(track, other, now_ns)

    def _layered_screens(self) -> list[tuple[Published, Published]]:
        screens = [
            out.published
            for out in self._signaling.outgoing()
            if out.published.type is TrackType.SCREEN and out.published.rid
        ]
        pairs = [(track, self._call.other_layer(track)) for track in screens]
        return [(track, other) for track, other in pairs if other is not None]

    def _switch(self, track: Published, other: Published, now_ns: int) -> None:
        """By removing the one track and adding the other: new ids, new SSRC, two negotiations."""
        layer: Layer = "h" if other.rid == "h" else "l"
        self._layers.changed(layer, rate_bps=other.rate.rate_bps(now_ns), now_ns=now_ns)
        self._signaling.queue_remove(track)
        self._signaling.queue_add(other)
