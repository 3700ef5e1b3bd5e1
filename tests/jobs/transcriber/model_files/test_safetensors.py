"""A header may say anything: what makes no sense is named, and costs no memory."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from jobs.transcriber.model_files.binary import ModelFileError, read_model_binary
from jobs.transcriber.model_files.safetensors import Tensors


def write(directory: Path, header: bytes) -> None:
    data = len(header).to_bytes(8, "little") + header + bytes(64)
    (directory / "model.safetensors").write_bytes(data)


@pytest.mark.parametrize(
    ("shape", "offsets", "text"),
    [
        ([4], [-16, 0], "not as long as its shape"),
        ([4], ["0", "16"], "not as long as its shape"),
        ([4], 16, "not as long as its shape"),
        ([2.0], [0, 8], "not as long as its shape"),
        ([-2, -2], [0, 16], "not as long as its shape"),
        ([2**32, 2**32], [0, 0], "not as long as its shape"),
        ([2**38], [0, 2**40], "is cut short"),
        ([2**70], [0, 2**72], "is cut short"),
        ([4], [52, 68], "is cut short"),
    ],
)
def test_a_tensor_that_cannot_be_there_is_named(
    tmp_path: Path, shape: list[Any], offsets: Any, text: str
) -> None:
    entry = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
    write(tmp_path, json.dumps({"one": entry}).encode())
    with pytest.raises(ModelFileError, match=text):
        Tensors(tmp_path).take("one")


@pytest.mark.documents("weights-that-are-damaged/3", "weights-that-are-damaged/4")
def test_a_tensor_of_another_length_or_type_is_named(tmp_path: Path, documented: Any) -> None:
    for number, dtype, offsets in ((3, "F32", [0, 8]), (4, "I8", [0, 16])):
        entry = {"dtype": dtype, "shape": [4], "data_offsets": offsets}
        write(tmp_path, json.dumps({"one": entry}).encode())
        with pytest.raises(ModelFileError) as refused:
            Tensors(tmp_path).take("one")
        documented(f"weights-that-are-damaged/{number}", str(refused.value))


@pytest.mark.parametrize(
    "header", [b'{"one":' + b"[" * 100_000, b"[1]", b'{"one": 1}', b"{"], ids=lambda h: h[:9]
)
def test_a_header_that_is_none_is_told(tmp_path: Path, header: bytes) -> None:
    write(tmp_path, header)
    with pytest.raises(ModelFileError, match="is no safetensors file"):
        Tensors(tmp_path)


def test_a_model_with_a_layer_of_too_few_dimensions_is_told(tmp_path: Path) -> None:
    def name(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    path = tmp_path / "model.bin"
    layer = name("encoder/conv1/weight") + struct.pack("<BIBI", 1, 3, 0, 0)
    head = struct.pack("<I", 6) + name("WhisperSpec") + struct.pack("<II", 1, 1)
    path.write_bytes(head + layer + struct.pack("<I", 0))
    with pytest.raises(ModelFileError, match="no file of CTranslate2"):
        read_model_binary(path)
