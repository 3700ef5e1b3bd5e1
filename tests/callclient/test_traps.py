"""Which test proves that the call client steps into none of the contract's traps (calls-plugin.md 12).

Traps 31 to 42 and 45 to 52 are about HTTP and jobs: tests/jobs/test_traps.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

_C = "callclient"
_D = "callclient/against_double"

TRAPS: dict[int, tuple[str, ...]] = {
    1: (
        f"{_C}/test_client.py::"
        "test_a_join_names_the_channel_and_the_plugins_job_and_does_not_claim_av1",
    ),
    2: (
        f"{_C}/test_client.py::test_of_what_the_bot_hears_only_its_own_call_and_job_count",
        f"{_C}/test_client.py::test_answers_to_other_connections_of_the_bot_are_not_ours",
        f"{_C}/test_translate.py::test_only_the_stop_of_our_own_job_stops_us",
        f"{_C}/test_translate.py::test_events_of_other_channels_are_not_ours",
    ),
    3: (
        f"{_C}/test_client.py::"
        "test_a_call_that_simply_empties_ends_with_the_media_or_a_stop_and_without_call_end",
        f"{_C}/test_client.py::test_a_stop_that_comes_before_the_join_is_answered_is_told",
        f"{_C}/test_client.py::test_the_end_for_all_is_the_last_event",
    ),
    4: (f"{_C}/test_translate.py::test_a_job_does_not_wait_for_its_own_join_nor_for_other_jobs",),
    5: (f"{_C}/test_translate.py::test_screen_off_without_a_session_means_that_nobody_shares",),
    6: (
        f"{_C}/test_translate.py::test_the_call_state_is_a_string_of_json_and_is_merged",
        f"{_C}/test_translate.py::test_a_call_state_that_cannot_be_read_changes_nothing",
    ),
    7: (
        f"{_C}/test_translate.py::test_two_sessions_of_the_host_are_both_the_host_s",
        f"{_C}/test_translate.py::test_the_host_is_a_user_and_may_be_nobody",
        "jobs/recorder/test_scene.py::test_the_host_is_a_user_so_both_sessions_carry_the_badge",
    ),
    8: (
        f"{_C}/test_client.py::test_a_join_that_is_never_answered_fails_in_time",
        f"{_D}/test_through_the_plugin.py::"
        "test_a_join_that_only_the_plugin_confirms_fails_with_a_reason_in_time",
    ),
    9: (
        f"{_C}/test_wire.py::test_the_sdp_action_is_msgpack_with_bin_inside",
        "testbed/plugin/test_call_events.py::test_an_sdp_in_a_text_frame_is_dropped",
    ),
    10: (
        f"{_C}/test_wire.py::"
        "test_a_frame_above_8_kib_is_refused_before_the_server_closes_the_connection",
        f"{_C}/test_reconnect.py::"
        "test_a_frame_too_large_for_the_server_is_dropped_and_the_next_one_goes_out",
        f"{_D}/test_offers.py::"
        "test_an_answer_that_the_plugin_would_drop_for_its_size_goes_over_the_channel",
        f"{_D}/test_crowd.py::"
        "test_a_crowd_that_comes_and_goes_leaves_no_section_task_socket_or_memory_behind",
    ),
    11: (
        f"{_C}/test_reconnect.py::test_after_some_seconds_without_a_websocket_the_session_goes_on",
        f"{_C}/test_reconnect.py::"
        "test_the_first_attempt_is_made_at_once_and_the_next_ones_wait_longer_and_longer",
        f"{_D}/test_websocket_cut.py::"
        "test_after_15_s_everything_is_there_that_came_before_the_server_gave_the_session_up",
        "jobs/recorder/test_job.py::test_started_is_reported_only_after_the_join",
        "jobs/recorder/test_job.py::test_however_the_call_ends_what_was_recorded_is_published",
        "jobs/transcriber/test_job.py::test_a_lost_connection_costs_nothing_that_was_heard",
    ),
    12: (
        f"{_C}/test_client.py::"
        "test_media_goes_on_while_the_websocket_is_away_and_who_left_meanwhile_has_left",
        f"{_D}/test_websocket_cut.py::test_a_cut_of_some_seconds_costs_not_one_packet",
        f"{_D}/test_offers.py::test_an_offer_that_is_lost_costs_its_track_and_nothing_else",
    ),
    13: (
        f"{_C}/test_reconnect.py::"
        "test_a_dead_connection_is_noticed_and_replaced_while_the_session_still_lives",
        f"{_C}/test_connection.py::test_the_pings_of_the_server_are_answered",
    ),
    14: (
        f"{_C}/test_connection.py::test_a_missing_hello_is_a_refusal",
        f"{_C}/test_client.py::test_without_a_hello_the_token_is_blamed",
    ),
    15: (
        f"{_C}/test_reconnect.py::"
        "test_everything_goes_out_within_the_server_s_limit_and_joins_overtake_captions",
        f"{_C}/test_outbox.py::test_no_more_than_the_server_takes_is_sent",
    ),
    16: (
        f"{_D}/test_habits_of_the_original.py::"
        "test_the_first_offer_comes_at_once_with_a_data_channel_and_no_media",
    ),
    17: (
        f"{_D}/test_offers.py::test_a_crowd_that_speaks_at_once_is_answered_in_order",
        f"{_D}/test_offers.py::test_an_offer_that_comes_twice_is_answered_once",
        f"{_D}/test_offers.py::"
        "test_answers_that_come_too_late_leave_a_connection_that_still_carries_what_it_had",
    ),
    18: (
        f"{_D}/test_lock.py::test_a_listener_never_unlocks",
        f"{_D}/test_lock.py::"
        "test_publications_of_one_client_take_turns_and_unlock_what_they_locked",
    ),
    19: (
        f"{_D}/test_announcements.py::"
        "test_a_track_belongs_to_whom_its_msid_names_whatever_the_media_map_says",
        f"{_D}/test_announcements.py::test_offers_over_the_data_channel_are_answered_there",
    ),
    20: (
        f"{_D}/test_announcements.py::"
        "test_a_second_share_comes_in_the_section_of_the_first_and_is_another_track",
        f"{_D}/test_announcements.py::"
        "test_sections_of_speakers_who_left_stay_and_newcomers_are_heard_all_the_same",
    ),
    21: (
        f"{_D}/test_announcements.py::"
        "test_the_screen_of_a_sharer_who_leaves_ends_by_offer_her_voice_only_by_the_plugins_word",
        f"{_D}/test_announcements.py::"
        "test_what_was_on_its_way_when_its_speaker_left_is_no_track_that_nothing_would_end",
    ),
    22: (
        f"{_D}/test_announcements.py::"
        "test_a_second_share_comes_in_the_section_of_the_first_and_is_another_track",
        f"{_C}/receive/test_receiving.py::"
        "test_a_reused_section_with_another_source_is_another_track",
    ),
    23: (
        f"{_D}/test_packets.py::"
        "test_a_key_frame_is_asked_for_until_one_comes_though_the_sfu_asks_for_none",
        f"{_D}/test_packets.py::"
        "test_loss_that_nobody_repairs_is_followed_by_a_request_for_a_key_frame",
    ),
    24: (
        f"{_C}/test_client.py::"
        "test_a_join_names_the_channel_and_the_plugins_job_and_does_not_claim_av1",
        f"{_D}/test_habits_of_the_original.py::"
        "test_a_share_in_av1_is_not_for_who_did_not_claim_to_decode_it",
    ),
    25: (
        f"{_D}/test_habits_of_the_original.py::"
        "test_who_sends_transport_feedback_gets_the_high_layer",
    ),
    26: (
        f"{_D}/test_packets.py::"
        "test_header_extensions_of_the_publisher_mean_nothing_to_the_listener",
    ),
    27: (
        f"{_D}/test_announcements.py::"
        "test_vp8_is_found_by_name_in_whatever_order_codecs_are_offered",
    ),
    28: (
        f"{_D}/test_both_servers.py::test_the_sound_of_a_screen_is_no_voice",
        "jobs/transcriber/test_job.py::test_screen_sound_is_not_transcribed",
        "jobs/recorder/test_recording.py::"
        "test_flashes_and_beeps_meet_and_both_streams_end_together",
    ),
    29: (
        f"{_D}/test_packets.py::test_a_gap_in_the_numbers_after_a_mute_is_not_loss",
        f"{_C}/timeline/test_source_clock.py::test_after_a_mute_speech_lies_where_it_was_said",
    ),
    30: (
        f"{_C}/test_translate.py::"
        "test_whose_speaking_was_never_told_is_not_told_to_be_silent_by_a_mute",
        "jobs/recorder/test_scene.py::"
        "test_speaking_is_unknown_until_the_server_told_of_that_session",
    ),
    43: (
        f"{_C}/test_server_clock.py::test_the_answer_belongs_to_the_middle_of_its_round_trip",
        f"{_C}/test_client.py::test_a_reply_of_the_servers_tells_what_time_it_is_there",
    ),
    44: (
        f"{_C}/test_translate.py::test_a_job_does_not_wait_for_its_own_join_nor_for_other_jobs",
        "testbed/plugin/test_recording.py::"
        "test_a_transcriber_that_comes_late_learns_when_the_recording_started",
    ),
}


def test_no_trap_is_left_out() -> None:
    assert sorted(TRAPS) == [*range(1, 31), 43, 44]


@pytest.mark.parametrize("number", TRAPS)
def test_a_trap_has_its_tests(tests_in: Callable[[str], frozenset[str]], number: int) -> None:
    for name in TRAPS[number]:
        file, _, test = name.partition("::")
        assert test in tests_in(file), f"{name} is gone"
