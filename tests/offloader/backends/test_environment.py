from __future__ import annotations

from typing import Any

import pytest

from offloader.backends.environment import job_environment, plain_text


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
        *("ssl_cert_file", "openssl_conf", "node_options", "env", "a-b", "1a", "", "a=b", "ü"),
    ],
)
def test_names_that_steer_loaders_or_interpreters_are_dropped_and_named(key: str) -> None:
    environment = job_environment({key: "x", "call_id": "c"})
    assert dict(environment.variables) == {"CALL_ID": "c"}
    assert environment.dropped == (key.upper(),)


@pytest.mark.parametrize("key", ["tls_ca_cert_file", "extra_chromium_args", "loader", "pathology"])
def test_unknown_keys_pass_through(key: str) -> None:
    assert dict(job_environment({key: "x"}).variables) == {key.upper(): "x"}


def test_an_environment_never_shows_its_values() -> None:
    assert "hidden" not in repr(job_environment({"auth_token": "hidden"}))
