"""Which test proves which row of the original's own suite (rtcd.md 7), and which trap (8): control side.

A row without a test here is the media side's, or is about the original's Go client and Go internals.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

ROWS: dict[str, tuple[str, ...]] = {
    # cmd/rtcd, logger
    "missing or empty file equals defaults": (
        "sfu/test_settings.py::test_without_file_and_environment_the_defaults_hold",
        "sfu/test_settings.py::test_an_empty_file_equals_defaults",
    ),
    "unknown section ignored": (
        "sfu/test_settings.py::test_unknown_sections_and_keys_are_ignored_but_kept_for_the_log",
    ),
    "environment overrides the file": (
        "sfu/test_settings.py::test_the_environment_wins_over_the_file",
    ),
    "logger messages and levels": (
        "sfu/test_settings.py::test_a_broken_rule_is_told_in_the_contracts_words",
        "sfu/test_settings.py::test_all_levels_are_known_in_any_letter_case",
        "sfu/test_logging_setup.py::test_each_target_has_its_level_and_form",
    ),
    # service: messages and auth
    "client messages round-trip": (
        "sfu/test_messages.py::test_frames_of_the_original_are_read",
        "sfu/test_messages.py::test_every_rtc_message_comes_back_as_it_went",
    ),
    "register: GET 404, empty body 400, admin 201": (
        "sfu/test_control_system.py::test_an_unknown_path_and_a_wrong_method_are_404",
        "sfu/test_control_clients.py::test_a_body_that_is_no_object_of_texts_is_400",
        "sfu/test_control_clients.py::"
        "test_without_self_registration_a_registration_needs_a_client_or_the_admin",
    ),
    "unregister: who may whom": ("sfu/test_control_clients.py::test_who_may_unregister_whom",),
    "login, and the token unregisters": (
        "sfu/test_control_clients.py::test_a_client_is_registered_logs_in_works_and_is_gone",
    ),
    "WebSocket authentication": (
        "sfu/test_control_entry.py::test_a_failed_authentication_is_401_and_no_upgrade",
        "sfu/test_control_entry.py::test_a_bearer_token_opens_the_websocket_until_it_expires",
    ),
    "register texts": (
        "sfu/test_control_clients.py::test_a_refusal_has_a_reason_and_its_status_twice",
        "clientauth/test_service.py::test_a_refused_registration_says_why",
    ),
    "unknown types with bytes do not break the connection": (
        "sfu/test_control_frames.py::"
        "test_a_frame_that_is_no_message_for_the_server_is_ignored_and_ends_nothing",
    ),
    "hello with connID first": (
        "sfu/test_control_entry.py::test_a_hello_with_the_client_and_a_fresh_id_comes_first",
    ),
    "version has six fields, load is not zero": (
        "sfu/test_control_system.py::test_the_version_has_six_texts_and_needs_no_authentication",
        "sfu/test_control_system.py::"
        "test_the_load_is_measured_once_a_second_and_needs_no_authentication",
    ),
    "herd of registrations": ("sfu/test_control_clients.py::test_ten_clients_register_at_once",),
    "GetSession and GetSessions": (
        "sfu/test_control_calls.py::test_calls_are_shown_to_nobody_without_authentication",
        "sfu/test_control_calls.py::test_what_is_not_there_is_404_with_a_text",
        "sfu/test_control_calls.py::test_a_client_without_any_call_is_told_so",
        "sfu/test_control_calls.py::test_sessions_are_shown_with_the_names_of_gos_members",
    ),
    # service/api, auth, store, random, ws
    "start fails on a busy port": (
        "sfu/test_main.py::test_a_taken_port_is_named_with_the_setting_that_changes_it",
    ),
    "plaintext and TLS serve, and stop": (
        "sfu/test_http_server.py::test_tls_1_2_and_1_3_are_spoken_over_p_256",
        "sfu/test_http_server.py::test_after_the_end_nobody_is_served",
    ),
    "a key wrong by one space": (
        "clientauth/test_service.py::test_a_wrong_key_is_refused_even_by_one_trailing_space",
    ),
    "session cache": (
        "clientauth/test_service.py::test_a_second_login_ends_the_first_token_and_tokens_expire",
        "clientauth/test_service.py::test_unregistering_ends_the_bearer_session",
    ),
    "store: one winner, survives reopen": (
        "clientauth/test_service.py::test_of_ten_concurrent_puts_exactly_one_wins",
        "clientauth/test_service.py::test_the_file_store_survives_reopening_and_is_private",
    ),
    "26 characters of the alphabet": (
        "sfu/test_control_entry.py::test_a_hello_with_the_client_and_a_fresh_id_comes_first",
    ),
    "two clients heard, 100 messages in order": (
        "sfu/test_control_sessions.py::test_messages_of_several_connections_are_all_handled",
        "sfu/test_control_sessions.py::test_what_a_session_says_goes_out_in_order_with_all_ids",
    ),
    "who answers no pings is disconnected": (
        "sfu/test_main.py::test_a_plugin_that_answers_no_ping_is_cut_off_whatever_else_it_sends",
    ),
    # service/rtc: config, server, net, TURN
    "rtc config messages": (
        "sfu/test_settings.py::test_a_broken_rule_is_told_in_the_contracts_words",
        "sfu/test_settings.py::test_a_retransmission_buffer_of_a_power_of_two_or_none_is_allowed",
    ),
    "session config messages in order": (
        "sfu/test_media_port.py::test_a_join_that_fails_leaves_nothing_behind",
    ),
    "getSTUN": ("sfu/test_addresses.py::test_the_first_url_of_the_first_stun_server_counts",),
    "port map, address list": (
        "sfu/test_settings.py::test_the_port_that_clients_are_told_may_be_a_number_a_text_or_a_map",
        "sfu/test_settings.py::test_addresses_are_trimmed_and_may_be_ipv6",
    ),
    "draining blocks until the last session": (
        "sfu/test_drain.py::test_without_sessions_a_stop_is_immediate",
        "sfu/test_drain.py::test_a_stop_waits_for_the_last_session_however_long_it_stays",
        "sfu/test_main.py::test_sessions_may_end_by_themselves_before_the_process_does",
    ),
    "candidates are hosts, one of TCP at least": (
        "sfu/test_addresses.py::"
        "test_every_local_address_is_a_candidate_of_both_transports_loopback_too",
    ),
    "port override": (
        "sfu/test_addresses.py::test_another_port_is_told_with_external_addresses_only",
        "sfu/test_addresses.py::test_another_port_is_told_for_what_a_stun_server_found",
    ),
    "100 sessions at once": (
        "sfu/test_media_port.py::test_a_hundred_sessions_come_and_go_at_once",
    ),
    "local addresses of one family or two": (
        "sfu/test_addresses.py::test_of_ipv6_only_global_addresses_count_and_only_when_enabled",
    ),
    "TURN credentials and configurations": (
        "sfu/test_turn.py::test_credentials_without_secret_name_or_a_sane_lifetime_are_refused",
        "sfu/test_turn.py::test_servers_without_credentials_all_get_them_and_stun_servers_none",
    ),
    "address pairs": (
        "sfu/test_addresses.py::test_pairs_are_taken_as_they_are_and_who_is_in_none_stands_for_itself",
        "sfu/test_addresses.py::test_an_override_wins_over_the_stun_server",
    ),
}

TRAPS: dict[int, str] = {
    1: "sfu/test_messages.py::test_frames_are_written_byte_for_byte_as_the_original_writes_them",
    2: "sfu/test_messages.py::test_a_map_with_nil_or_nothing_in_it_is_refused_and_ends_nothing",
    3: "sfu/test_control_entry.py::test_a_failed_authentication_is_401_and_no_upgrade",
    4: "sfu/test_control_sessions.py::test_a_join_that_fails_ends_in_a_close_so_that_nobody_waits",
    5: "sfu/test_control_sessions.py::"
    "test_a_client_cannot_steer_end_or_take_over_the_session_of_another",
    6: "sfu/test_control_entry.py::test_the_admin_gets_in_without_a_group_and_cannot_make_sessions",
    7: "sfu/test_control_connections.py::"
    "test_after_a_reconnect_everything_goes_to_the_new_connection_the_close_too",
    11: "sfu/test_metrics.py::test_there_are_no_created_series_and_gauges_keep_their_names",
    12: "sfu/test_control_system.py::test_the_version_is_one_that_the_plugins_check_understands",
    13: "sfu/test_settings.py::test_no_ice_servers_in_the_environment_are_no_reason_to_fail",
    14: "sfu/test_system_load.py::test_a_fully_busy_host_has_a_high_load_that_json_can_write",
    30: "sfu/test_addresses.py::test_another_port_is_told_for_a_host_name_as_well",
    31: "sfu/test_addresses.py::"
    "test_a_host_name_is_resolved_once_a_minute_and_its_last_answer_kept",
    32: "sfu/test_turn.py::"
    "test_a_server_with_credentials_of_its_own_is_used_with_and_without_the_secret",
    33: "sfu/test_addresses.py::test_a_stun_url_without_a_port_is_refused",
    35: "sfu/test_addresses.py::"
    "test_every_local_address_is_a_candidate_of_both_transports_loopback_too",
    36: "sfu/test_drain.py::test_a_limit_ends_the_wait_and_the_status_counts_down",
    38: "sfu/test_main.py::test_the_process_says_where_it_listens_and_ends_politely",
}
"""8 and 10 are the media side's; 9, 37 and 39 are about clients; 34 is about the number of sockets."""


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_its_tests(tests_in: Callable[[str], frozenset[str]], row: str) -> None:
    for name in ROWS[row]:
        file, _, test = name.partition("::")
        assert test in tests_in(file)


@pytest.mark.parametrize("number", TRAPS)
def test_a_trap_has_its_test(tests_in: Callable[[str], frozenset[str]], number: int) -> None:
    file, _, test = TRAPS[number].partition("::")
    assert test in tests_in(file)
