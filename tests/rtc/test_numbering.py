"""Whose numbers count, and that a bundle has each of them once."""

from __future__ import annotations

import pytest

from rtc.numbering import Capabilities, Numbering
from rtc.sdp import CodecDescription

LEVEL, MID, NUMBER = "urn:level", "urn:mid", "urn:number"
CAPABILITIES = Capabilities(
    audio_codecs=(CodecDescription(111, "opus", 48_000, 2),),
    video_codecs=(CodecDescription(96, "VP8", 90_000), CodecDescription(45, "AV1", 90_000)),
    audio_extensions=(LEVEL, NUMBER),
    video_extensions=(MID, NUMBER),
    extension_numbers=((LEVEL, 1), (MID, 2), (NUMBER, 5)),
)


def opus(number: int) -> CodecDescription:
    return CodecDescription(number, "OPUS", 48_000, 2)


def test_without_a_word_of_the_other_side_the_numbers_are_ours() -> None:
    numbering = Numbering(CAPABILITIES)
    assert [c.payload_type for c in numbering.codecs("video")] == [96, 45]
    assert numbering.extensions("video") == {MID: 2, NUMBER: 5}
    assert numbering.extensions("audio") == {LEVEL: 1, NUMBER: 5}


def test_offered_numbers_are_adopted_for_everything_that_follows() -> None:
    numbering = Numbering(CAPABILITIES)
    assert [c.payload_type for c in numbering.adopt_codecs("audio", [opus(109)])] == [109]
    assert numbering.adopt_extensions("audio", {LEVEL: 3, NUMBER: 4}) == {LEVEL: 3, NUMBER: 4}
    assert [c.payload_type for c in numbering.codecs("audio")] == [109]
    assert numbering.extensions("video") == {MID: 2, NUMBER: 4}


@pytest.mark.parametrize("number", [96, 45])
def test_a_number_that_the_other_side_uses_is_free_for_it(number: int) -> None:
    """aiortc calls Opus 96: our VP8 then needs another one, since a bundle has each number once."""
    numbering = Numbering(CAPABILITIES)
    numbering.adopt_codecs("audio", [opus(number)])
    types = [c.payload_type for kind in ("audio", "video") for c in numbering.codecs(kind)]
    assert types[0] == number
    assert len(set(types)) == 3
    assert all(96 <= n <= 127 or 35 <= n <= 63 for n in types)


def test_an_extension_that_is_ours_for_the_other_kind_keeps_its_id_too() -> None:
    numbering = Numbering(CAPABILITIES)
    assert numbering.adopt_extensions("audio", {LEVEL: 1, "urn:time": 2, MID: 4}) == {LEVEL: 1}
    assert numbering.extensions("video")[MID] == 4


def test_an_id_of_an_extension_that_is_not_ours_is_not_used_for_another() -> None:
    numbering = Numbering(CAPABILITIES)
    numbering.adopt_extensions("audio", {"urn:time": 2, "urn:other": 1})
    ids = numbering.extensions("video") | numbering.extensions("audio")
    assert len(set(ids.values())) == 3
    assert not {1, 2} & set(ids.values())


def test_where_no_id_is_left_an_extension_is_left_out() -> None:
    numbering = Numbering(CAPABILITIES)
    numbering.adopt_extensions("video", {f"urn:{n}": n for n in range(1, 15)})
    assert numbering.extensions("video") == {}


@pytest.mark.parametrize("number", [-1, 0, 15, 16, 255, 4096])
def test_an_id_that_the_one_byte_form_has_not_is_not_adopted(number: int) -> None:
    numbering = Numbering(CAPABILITIES)
    assert numbering.adopt_extensions("audio", {LEVEL: number}) == {}
    assert numbering.extensions("audio")[LEVEL] == 1


def test_ids_of_offer_after_offer_are_not_kept() -> None:
    numbering = Numbering(CAPABILITIES)
    for offer in range(100):
        numbering.adopt_extensions("audio", {f"urn:{n}": 100 * offer + n for n in range(100)})
    assert len(numbering._foreign_ids) <= 14
