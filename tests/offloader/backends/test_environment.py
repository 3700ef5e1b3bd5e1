from __future__ import annotations

from typing import Any

import pytest

from offloader.backends.environment import deadline_variables, job_environment, plain_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("raw string", "raw string"),
        ("null", "null"),
        ("", ""),
        (1280, "1280"),
        (0.5, "0.5"),
        (1280.0, "1280"),
        (-3.0, "-3"),
        (True, "true"),
        (False, "false"),
        ([1, "é"], '[1, "é"]'),
        ({"a": None}, '{"a": null}'),
    ],
)
def test_values_travel_in_plain_text_form(value: Any, text: str) -> None:
    assert plain_text(value) == text


def test_keys_are_upper_cased_and_nulls_left_to_the_jobs_default() -> None:
    environment = job_environment({"site_url": "https://x", "width": 1280, "post_id": None})
    assert dict(environment.variables) == {"SITE_URL": "https://x", "WIDTH": "1280"}
    assert environment.dropped == ()


@pytest.mark.parametrize(
    "key",
    [
        *("ld_preload", "LD_LIBRARY_PATH", "pythonpath", "PYTHONSTARTUP", "path", "Bash_Env"),
        *("glibc_tunables", "malloc_arena_max", "ifs", "home", "data_dir", "models_dir"),
        *("transcribe_tasks_url", "Transcribe_Tasks_Token"),
        *("max_duration_s", "stop_grace_s", "copies_url", "aws_secret_access_key"),
        *(
            "http_proxy",
            "HTTPS_PROXY",
            "all_proxy",
            "no_proxy",
            "browser",
            "pythonwarnings",
            "omp_num_threads",
        ),
        *(
            "job_input_file",
            "job_secrets",
            "auth_token_file",
            "retranscription",
            "lang",
            "tz",
            "xdg_config_home",
        ),
        *("ssl_cert_file", "openssl_conf", "node_options", "env", "a-b", "1a", "", "a=b", "ü"),
    ],
)
def test_names_that_steer_loaders_or_interpreters_are_dropped_and_named(key: str) -> None:
    environment = job_environment({key: "x", "call_id": "c"})
    assert dict(environment.variables) == {"CALL_ID": "c"}
    assert environment.dropped == (key.upper(),)


def test_of_dropped_names_the_log_gets_their_number_and_a_part_that_is_bounded() -> None:
    environment = job_environment({f"ld_{number}_{'x' * 100}": "evil" for number in range(50)})
    fields = environment.dropped_fields
    assert fields["count"] == 50
    assert len(fields["names"]) == 20
    assert {len(name) for name in fields["names"]} == {64}


@pytest.mark.parametrize("key", ["tls_ca_cert_file", "extra_chromium_args", "loader", "pathology"])
def test_unknown_keys_pass_through(key: str) -> None:
    assert dict(job_environment({key: "x"}).variables) == {key.upper(): "x"}


def test_an_environment_never_shows_its_values() -> None:
    assert "hidden" not in repr(job_environment({"auth_token": "hidden"}))


def test_a_job_is_told_when_it_will_be_stopped_and_killed() -> None:
    told = deadline_variables(max_duration_s=3600, stop_grace_s=300.4)
    assert told == {"MAX_DURATION_S": "3600", "STOP_GRACE_S": "300"}
    assert deadline_variables(max_duration_s=0, stop_grace_s=300.0) == {}
