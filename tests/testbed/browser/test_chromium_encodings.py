"""The page's own MessagePack and zlib against the Python side of the same wire."""

from __future__ import annotations

import base64
from typing import Any

import msgpack
import pytest
import pytest_asyncio

from rtc import calls_dc

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.timeout(60),
    pytest.mark.asyncio(loop_scope="module"),
]

_VALUES: list[Any] = [
    None,
    True,
    False,
    *(0, 127, 128, 255, 256, 65_535, 65_536, 2**32 - 1),
    *(-1, -32, -33, -129, -40_000, 0.5, -2.25, 1e300),
    *("", "ä" * 20, "x" * 200, "語" * 30_000),
    [],
    list(range(20)),
    {"action": "custom", "seq": 3, "data": {"data": "…"}},
    {str(number): number for number in range(300)},
]

_TO_BASE64 = "(bytes) => btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join(''))"
_FROM_BASE64 = "(text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0))"


@pytest_asyncio.fixture(loop_scope="module")
async def page(meeting, chromium):
    """A tab with the page, nobody in the call."""
    guest = await meeting.guest(chromium, "alice")
    yield guest.tab
    await guest.tab.close()


async def test_what_the_page_packs_python_reads(page) -> None:
    script = f"""async (values) => {{
        const {{ pack }} = await import("/testbed/web/msgpack.js");
        return values.map((value) => ({_TO_BASE64})(pack(value)));
    }}"""
    packed = await page.run(script, _VALUES)
    assert [msgpack.unpackb(base64.b64decode(text)) for text in packed] == _VALUES


async def test_what_python_packs_the_page_reads(page) -> None:
    script = f"""async (packed) => {{
        const {{ unpackAll }} = await import("/testbed/web/msgpack.js");
        return unpackAll(({_FROM_BASE64})(packed));
    }}"""
    packed = b"".join(msgpack.packb(value) for value in _VALUES)
    assert await page.run(script, base64.b64encode(packed).decode()) == _VALUES


async def test_bytes_go_as_bytes(page) -> None:
    """An `sdp` as text would be dropped by the plugin without a word (calls-plugin.md 2)."""
    script = f"""async () => {{
        const {{ pack }} = await import("/testbed/web/msgpack.js");
        return [3, 300, 70000].map((size) => ({_TO_BASE64})(pack(new Uint8Array(size))));
    }}"""
    packed = [msgpack.unpackb(base64.b64decode(text)) for text in await page.run(script)]
    assert packed == [bytes(3), bytes(300), bytes(70_000)]


async def test_descriptions_are_packed_as_on_the_wire(page) -> None:
    script = f"""async (packed) => {{
        const {{ packSdp, unpackSdp }} = await import("/testbed/web/packed_sdp.js");
        const read = await unpackSdp(({_FROM_BASE64})(packed));
        return [read, ({_TO_BASE64})(await packSdp({{ type: "offer", sdp: "v=0\\r\\n" }}))];
    }}"""
    given = base64.b64encode(calls_dc.pack_sdp("answer", "v=0\r\no=ä\r\n")).decode()
    read, packed = await page.run(script, given)
    assert read == {"type": "answer", "sdp": "v=0\r\no=ä\r\n"}
    assert calls_dc.unpack_sdp(base64.b64decode(packed)) == ("offer", "v=0\r\n")


@pytest.mark.parametrize("data", [b"\xc1", b"\xd9", b"\xa5ab", b"\xc4\x05a"])
async def test_data_that_cannot_be_read_is_an_error(page, data: bytes) -> None:
    script = f"""async (packed) => {{
        const {{ unpackAll }} = await import("/testbed/web/msgpack.js");
        try {{ unpackAll(({_FROM_BASE64})(packed)); }} catch (error) {{ return error.name; }}
        return "read";
    }}"""
    assert await page.run(script, base64.b64encode(data).decode()) in ("TypeError", "RangeError")
