from __future__ import annotations

from pathlib import Path

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


@pytest.mark.parametrize("name", ["MODELS_DIR", "SPEECH"])
def test_a_directory_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(OptionError, match=f"{name}=/no/where: should be a directory"):
        read_options([], {name: "/no/where"})


def test_a_models_directory_without_a_needed_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "model.bin").touch()
    with pytest.raises(OptionError, match=r"base/model\.bin is missing"):
        provide_models(DemoOptions(models_dir=tmp_path), tmp_path)


def test_every_port_can_be_changed() -> None:
    options = read_options(
        ["--sfu-port=1", "--media-port=2", "--plugin-port=3", "--offloader-port=4"], {}
    )
    ports = options.ports
    assert (ports.sfu, ports.media, ports.plugin, ports.offloader) == (1, 2, 3, 4)
