from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from testbed.demo.options import MODEL_SIZES, DemoOptions, OptionError, provide_models, read_options
from testbed.speech.clips import CLIPS_DIRECTORY


def test_without_options_the_bundled_model_and_clips_are_used(tmp_path: Path) -> None:
    options = read_options([], {})
    assert options.speech_dir == CLIPS_DIRECTORY
    models = provide_models(options, tmp_path)
    for size in MODEL_SIZES:
        assert (models / size / "model.bin").is_file()


def test_the_environment_names_models_and_speech(tmp_path: Path) -> None:
    options = read_options([], {"MODELS_DIR": str(tmp_path), "SPEECH": str(tmp_path)})
    assert (options.models_dir, options.speech_dir) == (tmp_path, tmp_path)


@pytest.mark.documents("an-option-of-the-demo-that-cannot-be")
@pytest.mark.parametrize("name", ["MODELS_DIR", "SPEECH"])
def test_a_directory_that_is_not_there_is_named(name: str, documented: Any) -> None:
    with pytest.raises(OptionError) as refused:
        read_options([], {name: "/no/where"})
    documented("an-option-of-the-demo-that-cannot-be", str(refused.value))


@pytest.mark.documents("models-that-the-demo-lacks/2")
def test_a_checkout_without_its_model_is_named(
    tmp_path: Path, documented: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("testbed.demo.options.BUNDLED_MODEL", tmp_path)
    with pytest.raises(OptionError) as refused:
        provide_models(DemoOptions(), tmp_path)
    documented("models-that-the-demo-lacks/2", str(refused.value))


@pytest.mark.documents("models-that-the-demo-lacks")
def test_a_models_directory_without_a_needed_size_is_refused(
    tmp_path: Path, documented: Any
) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "model.bin").touch()
    with pytest.raises(OptionError) as refused:
        provide_models(DemoOptions(models_dir=tmp_path), tmp_path)
    documented("models-that-the-demo-lacks", str(refused.value))


def test_every_port_can_be_changed() -> None:
    options = read_options(
        ["--sfu-port=1", "--media-port=2", "--plugin-port=3", "--offloader-port=4"], {}
    )
    ports = options.ports
    assert (ports.sfu, ports.media, ports.plugin, ports.offloader) == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, ""),
        ({"RTCD_URL": "http://rtcd.example.com:8045/"}, "http://rtcd.example.com:8045"),
        ({"RTCD_URL": "https://me:key@10.0.0.1:443"}, "https://me:key@10.0.0.1:443"),
        (
            {"RTCD_URL": "http://me:old@host:1", "RTCD_CLIENT_ID": "a/b", "RTCD_AUTH_KEY": "k@y"},
            "http://a%2Fb:k%40y@host:1",
        ),
    ],
)
def test_another_sfu_is_named_by_the_environment(environ: dict[str, str], url: str) -> None:
    options = read_options([], environ)
    assert options.rtcd_url == url
    assert "key" not in repr(options)


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param(
            {"RTCD_URL": "rtcd:8045"},
            marks=pytest.mark.documents("an-option-of-the-demo-that-cannot-be/3"),
        ),
        pytest.param(
            {"RTCD_URL": "http://me:secret@rtcd"},
            marks=pytest.mark.documents("an-option-of-the-demo-that-cannot-be/3"),
        ),
        pytest.param(
            {"RTCD_URL": "http://rtcd:1", "RTCD_CLIENT_ID": "me"},
            marks=pytest.mark.documents("an-option-of-the-demo-that-cannot-be/2"),
        ),
    ],
)
def test_an_sfu_that_cannot_be_meant_is_refused_without_its_key(
    environ: dict[str, str], documented: Any
) -> None:
    with pytest.raises(OptionError) as refused:
        read_options([], environ)
    documented.marked(str(refused.value))
    assert "secret" not in str(refused.value)


def test_a_stack_that_stays_is_on_loopback_unless_told_otherwise() -> None:
    assert read_options(["--serve"], {}).host == "127.0.0.1"
    assert read_options(["--serve", "--host=192.168.1.5"], {}).host == "192.168.1.5"


@pytest.mark.parametrize("host", ["0.0.0.0", "demo.example.com", "::1", "224.0.0.1", ""])
def test_an_address_that_the_sfu_cannot_tell_browsers_is_refused(host: str) -> None:
    with pytest.raises(OptionError, match=f"--host={host}: should be the one IPv4 address"):
        read_options(["--serve", f"--host={host}"], {})


@pytest.mark.documents(
    "an-option-of-the-demo-that-cannot-be/4",
    "an-option-of-the-demo-that-cannot-be/5",
)
def test_an_address_goes_with_a_stack_that_stays(documented: Any) -> None:
    for number, given in (
        (4, ["--serve", "--host=chat.example.com"]),
        (5, ["--host=192.168.1.5"]),
    ):
        with pytest.raises(OptionError) as refused:
            read_options(given, {})
        documented(f"an-option-of-the-demo-that-cannot-be/{number}", str(refused.value))
