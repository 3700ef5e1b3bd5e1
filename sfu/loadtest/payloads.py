"""Payloads that real decoders take: silence and a grey picture, filled up to any size.

The stamp lies in the filling, which nobody reads: in Opus it is padding (RFC 6716 section 3.2.5), in VP8 what
stands behind the end of the last partition.
"""

from __future__ import annotations

import base64
import zlib
from typing import Final

VP8_KEY_FRAME: Final = zlib.decompress(
    base64.b85decode(
        b"c-j*%VVKLP)xea&XvxXIETh7sqvLW$#X*6A!C-^>x|cjtr>nF+eOd02vSz1>zP|S^XVuh`ij`Hdmn60I"
        b"Jh@L_dN<)@WRXW)-1L$*uhWy9K7HA}#3(FglKAwccNHgXdNN_pUcFI6s9{LJzi$s20H55-3I"
    )
)
"""640 × 360, one colour."""
VP8_DELTA_FRAME: Final = bytes.fromhex(
    "910400e34bd82c17af104f4fb10a2fde3f801fc061bfd0305fe818182ff40c0002a104104103cefefa7740"
)
"""Nothing has changed."""
_OPUS_HEAD: Final = bytes([0xFB, 0x41])
"""CELT, full band, 20 ms, mono; one frame with padding (RFC 6716 sections 3.1, 3.2.5)."""
_OPUS_SILENCE: Final = bytes([0xFF, 0xFE])


def opus_packet(size_bytes: int) -> bytes:
    """20 ms of silence in a packet of exactly this size; all but its first bytes is padding."""
    rest = size_bytes - len(_OPUS_HEAD) - len(_OPUS_SILENCE) - 1
    full, last = divmod(rest, 255)  # a length byte of 255 stands for 254 and itself
    lengths = bytes([255] * full + [last])
    return _OPUS_HEAD + lengths + _OPUS_SILENCE + bytes(rest - full)
