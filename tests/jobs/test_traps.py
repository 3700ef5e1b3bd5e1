"""Which test proves that the jobs step into none of the contract's traps (calls-plugin.md 12).

Traps 1 to 30, 43 and 44 are about the call: tests/callclient/test_traps.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

_API = "callclient/test_plugin_api.py"
_R = "jobs/recorder"
_T = "jobs/transcriber"

TRAPS: dict[int, tuple[str, ...]] = {
    31: (
        f"{_API}::test_the_reason_is_the_servers_text_and_not_too_much_of_it",
        "jobs/test_status.py::test_reports_name_call_job_type_and_reason",
    ),
    32: (
        "jobs/test_status.py::test_a_refusal_because_the_call_is_over_is_not_repeated_and_no_crash",
    ),
    33: (
        f"{_R}/test_people.py::test_who_left_already_is_found_by_user_id",
        f"{_R}/test_people.py::test_nobody_is_invisible_for_lack_of_an_answer",
        f"{_T}/test_speakers.py::test_a_name_is_asked_for_once_and_survives_the_process",
        f"{_T}/test_speakers.py::test_who_left_already_is_found_by_user_id",
        f"{_T}/test_job.py::test_a_speaker_without_profile_is_found_by_id_or_called_unknown",
    ),
    34: (
        f"{_API}::test_each_call_is_one_request_with_the_token_and_reads_its_answer",
        f"{_API}::test_204_says_that_more_is_wanted",
        "jobs/test_uploads.py::test_parts_that_the_server_cuts_off_are_continued_where_it_is",
        "testbed/plugin/test_uploads.py::test_a_new_upload_is_answered_with_its_session",
    ),
    35: (
        "jobs/test_part_size.py::test_the_first_part_never_falls_below_5_mib",
        "jobs/test_part_size.py::test_what_was_cut_off_is_not_sent_again",
        "jobs/test_upload_faults.py::"
        "test_parts_begin_with_8_mib_and_stay_below_what_the_server_keeps",
    ),
    36: (
        "jobs/test_publication.py::test_a_post_whose_answer_got_lost_is_found_and_not_made_twice",
        "jobs/test_publication.py::test_what_a_process_that_died_while_asking_has_done_is_found_out",
        "jobs/test_publication.py::test_a_request_that_did_nothing_is_repeated",
        f"{_R}/test_salvage.py::test_a_lost_answer_is_never_answered_with_a_second_post",
        f"{_R}/test_salvage.py::test_a_kill_while_posting_costs_neither_the_post_nor_a_second_one",
        f"{_T}/test_salvage.py::test_a_post_that_may_exist_is_not_made_twice",
    ),
    37: (
        f"{_T}/test_job.py::test_what_is_said_is_published_with_names_and_times",
        "testbed/plugin/test_publishing.py::test_a_transcript_is_a_post_with_the_text_and_the_captions",
        "testbed/plugin/test_publishing.py::test_an_incomplete_transcript_is_400_in_the_order_of_its_checks",
    ),
    38: (
        f"{_T}/test_job.py::test_the_recording_s_post_has_its_time_to_come_first",
        "testbed/plugin/test_publishing.py::"
        "test_a_recording_that_comes_after_its_transcript_has_no_captions",
    ),
    39: (f"{_T}/test_settings.py::test_what_the_plugin_sends_as_text_is_understood",),
    40: (
        f"{_T}/test_settings.py::test_what_the_plugin_sends_as_text_is_understood",
        f"{_R}/test_settings.py::test_numbers_have_their_range",
    ),
    41: (f"{_R}/test_settings.py::test_one_trailing_slash_of_the_site_is_removed",),
    42: (
        f"{_T}/test_job.py::test_no_recording_in_time_fails_the_start_and_leaves",
        f"{_T}/test_job.py::test_a_recording_that_failed_fails_the_start_at_once",
        "jobs/test_light_start.py::test_nothing_heavy_is_imported_before_the_join",
    ),
    45: (
        "offloader/api/test_clients.py::test_the_first_basic_request_registers_an_unknown_client",
        "testbed/plugin/test_job_service.py::test_it_goes_on_trying_until_the_service_is_up",
    ),
    46: (
        "offloader/test_service.py::test_both_jobs_of_one_call_at_once_hold_one_place",
        "offloader/test_admission.py::test_the_sibling_of_an_admitted_job_is_never_refused",
        "offloader/test_entrance.py::test_a_sibling_never_waits_behind_strangers",
        "offloader/api/test_jobs.py::test_the_third_call_is_refused_and_its_siblings_are_not",
    ),
    47: (
        f"{_R}/test_job.py::test_a_second_signal_keeps_everything_for_salvage",
        f"{_T}/test_job.py::test_a_second_signal_leaves_everything_on_disk",
        "jobs/test_harness.py::"
        "test_before_the_grace_is_over_the_job_is_hurried_so_that_it_can_tell_its_end",
        f"{_R}/test_salvage.py::test_what_was_recorded_is_published_and_the_directory_goes",
        f"{_T}/test_salvage.py::test_captures_alone_become_a_post",
    ),
    48: ("jobs/test_harness.py::test_a_failed_start_is_reported_and_exits_0_and_its_figures_tell",),
    49: (
        f"{_R}/test_job.py::test_refused_publication_keeps_everything",
        f"{_T}/test_job.py::test_a_refused_post_keeps_the_files",
        "jobs/test_upload_faults.py::"
        "test_a_revoked_token_ends_it_at_once_and_the_next_one_goes_on_there",
        "offloader/test_service.py::"
        "test_the_token_of_a_new_job_publishes_what_an_older_one_could_not",
    ),
    50: (
        "callclient/test_client.py::"
        "test_each_refusal_of_a_join_is_an_error_of_its_own_in_plain_words",
        f"{_R}/test_job.py::test_a_refused_join_is_a_failed_start_with_its_reason",
        f"{_T}/test_job.py::test_a_refused_join_fails_the_start",
    ),
    51: (
        f"{_R}/test_scene.py::test_names_are_both_names_or_the_username",
        f"{_T}/test_formats.py::test_display_names",
    ),
    52: (
        f"{_API}::test_names_may_be_empty_missing_or_null",
        f"{_API}::test_an_answer_of_null_to_a_question_for_users_is_nobody",
        f"{_API}::test_each_call_is_one_request_with_the_token_and_reads_its_answer",
    ),
}


def test_no_trap_is_left_out() -> None:
    assert sorted(TRAPS) == [*range(31, 43), *range(45, 53)]


@pytest.mark.parametrize("number", TRAPS)
def test_a_trap_has_its_tests(tests_in: Callable[[str], frozenset[str]], number: int) -> None:
    for name in TRAPS[number]:
        file, _, test = name.partition("::")
        assert test in tests_in(file), f"{name} is gone"
