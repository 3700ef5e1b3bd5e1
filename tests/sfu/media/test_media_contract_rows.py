"""Which test proves which row of the original's own suite (rtcd.md 7), and which trap (8): media side.

The control side's table is `tests/sfu/test_contract_rows.py`. Rows about the original's Go internals, and
about its Go client against a whole Mattermost, have no test here.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

_MEDIA = "sfu/media/test_"

ROWS: dict[str, tuple[str, ...]] = {
    # service/rtc (server)
    "100 sessions of 10 calls at once": (
        "sfu/media/test_sessions.py::test_a_hundred_sessions_of_ten_calls_come_and_go_at_once",
    ),
    "25 real peers connect and close": (
        "sfu/test_media_plane.py::test_twenty_five_real_peers_of_five_calls_connect_and_close",
    ),
    "20 concurrent closes; the close callback once": (
        "sfu/media/test_sessions.py::test_the_close_is_the_last_message_and_comes_once",
    ),
    "addSession: invalid config": (
        "sfu/test_media_plane.py::test_a_join_names_the_id_that_is_missing",
        "sfu/test_media_plane.py::test_a_session_id_is_taken_only_once",
    ),
    # service/rtc (rate), vad, stat
    "rate monitor": ("sfu/test_rate_monitor.py::test_",),
    "voice activity": (
        "sfu/test_voice_activity.py::test_",
        "sfu/media/test_publishing.py::test_voice_activity_is_told_and_ends_with_a_mute_every_time",
    ),
    "track ids of three fields": (
        "sfu/media/test_descriptions.py::test_a_track_is_named_by_type_session_and_eight_characters",
    ),
    # service/rtc/dc
    "lock: acquire, time-out, unlock of a free one, competition": (
        "sfu/test_lock.py::test_",
        "sfu/media/test_subscribing.py::test_a_client_gets_the_lock_at_once_or_a_no",
    ),
    "messages: ping, pong, SDP, media map": (
        "sfu/media/test_sessions.py::test_a_ping_has_its_pong_in_both_tongues",
        "sfu/media/test_subscribing.py::"
        "test_the_map_comes_right_before_its_offer_and_names_the_senders",
        "sfu/media/test_subscribing.py::test_offers_take_the_way_that_the_client_asked_for",
    ),
    # client
    "voice: publisher before, after, with the receiver; PT 111": (
        "sfu/test_media_plane.py::test_a_latecomer_gets_the_tracks_that_are_there",
        "sfu/media/test_forwarding.py::"
        "test_ssrc_and_payload_type_are_the_receivers_and_the_rest_passes",
    ),
    "voice and screen of one sender; PT 96": (
        "sfu/media/test_publishing.py::"
        "test_one_sender_may_have_all_four_kinds_under_its_session_id",
        "sfu/media/test_descriptions.py::"
        "test_an_offer_of_pictures_has_the_numbers_that_clients_expect",
    ),
    "later unmutes negotiate nothing": (
        "sfu/media/test_subscribing.py::test_later_unmutes_negotiate_nothing",
    ),
    "two first unmutes at once": (
        "sfu/media/test_subscribing.py::test_two_who_unmute_at_once_end_with_one_receiver_each",
    ),
    "screen on and off, both ways of signaling": (
        "sfu/media/test_subscribing.py::test_the_end_of_a_picture_is_told_and_its_section_used_again",
    ),
    "AV1 variant": ("sfu/media/test_subscribing.py::test_av1_goes_only_between_two_who_know_it",),
    "screen and voice for a late joiner, and voice back": (
        "sfu/media/test_subscribing.py::"
        "test_sound_and_picture_reach_a_late_joiner_and_its_voice_comes_back",
    ),
    "10 receivers, exactly one PLI within 2 s": (
        "sfu/media/test_video.py::test_ten_receivers_together_cost_one_pli_within_two_seconds",
    ),
    "loss and jitter that a client measures": (
        "sfu/media/test_sessions.py::test_what_a_client_measures_is_counted_in_any_kind_of_number",
    ),
}

TRAPS: dict[int, str] = {
    8: _MEDIA + "sessions.py::test_what_a_client_measures_is_counted_in_any_kind_of_number",
    10: _MEDIA + "subscribing.py::test_the_map_comes_right_before_its_offer_and_names_the_senders",
    15: _MEDIA + "subscribing.py::test_nothing_is_offered_before_the_data_channel_is_open",
    16: _MEDIA + "publishing.py::test_video_that_nobody_announced_is_held_for_two_seconds",
    17: _MEDIA + "forwarding.py::test_a_mute_stops_the_sound_and_leaves_no_hole",
    18: _MEDIA + "forwarding.py::test_a_mute_before_the_first_packet_counts",
    19: _MEDIA + "publishing.py::test_one_sender_may_have_all_four_kinds_under_its_session_id",
    20: _MEDIA + "subscribing.py::test_av1_goes_only_between_two_who_know_it",
    21: _MEDIA + "video.py::test_an_unknown_rid_is_refused_and_the_others_go_on",
    22: _MEDIA + "video.py::test_layers_are_switched_in_place_down_and_up_again",
    23: _MEDIA + "subscribing.py::test_the_sections_of_speakers_who_left_are_used_again",
    24: _MEDIA + "subscribing.py::test_a_newcomer_to_a_big_call_gets_twenty_tracks_with_each_offer",
    25: _MEDIA + "subscribing.py::test_tracks_wait_while_the_client_has_the_lock_and_none_is_lost",
    26: _MEDIA + "forwarding.py::test_audio_level_and_number_go_out_under_the_receivers_ids_only",
    27: _MEDIA
    + "video.py::test_a_newcomer_within_the_second_is_served_later_if_no_key_frame_comes",
    28: _MEDIA + "descriptions.py::test_an_offer_of_sound_has_the_numbers_that_clients_expect",
    29: _MEDIA + "descriptions.py::test_an_offer_of_sound_has_the_numbers_that_clients_expect",
}


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_its_tests(tests_in: Callable[[str], frozenset[str]], row: str) -> None:
    for name in ROWS[row]:
        file, _, test = name.partition("::")
        # Where all tests of a file are about the row, the file is enough.
        assert test in tests_in(file) or (test == "test_" and tests_in(file))


@pytest.mark.parametrize("number", TRAPS)
def test_a_trap_has_its_test(tests_in: Callable[[str], frozenset[str]], number: int) -> None:
    file, _, test = TRAPS[number].partition("::")
    assert test in tests_in(file)
