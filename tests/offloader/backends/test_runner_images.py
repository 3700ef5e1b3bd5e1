from __future__ import annotations

import pytest

from offloader.backends.runner_images import RunnerImages, own_image
from offloader.models import JobType

RECORDER = "mattermost/calls-recorder:v0.8.13"


def test_every_version_of_a_runner_is_our_image_of_this_release() -> None:
    images = RunnerImages()
    assert images.image(RECORDER) == own_image("recorder")
    assert images.image("corp/calls-recorder:v9.9.9") == own_image("recorder")
    assert images.image("mattermost/calls-transcriber:v0.1.0") == own_image("transcriber")
    assert "calls-recorder" in own_image("recorder")


def test_a_name_that_says_nothing_goes_by_the_type_of_the_job() -> None:
    assert RunnerImages().image("x", JobType.TRANSCRIBING) == own_image("transcriber")
    assert RunnerImages().image("x") == "x"


def test_one_setting_keeps_the_references_images() -> None:
    assert RunnerImages(use_reference_images=True).image(RECORDER) == RECORDER


@pytest.mark.parametrize("use_reference_images", [True, False])
def test_an_admins_own_map_comes_first_and_its_longest_name_wins(
    use_reference_images: bool,
) -> None:
    patterns = {"*": "all", "*/calls-recorder:*": "recorders", RECORDER: "this"}
    images = RunnerImages(patterns, use_reference_images)
    assert images.image(RECORDER) == "this"
    assert images.image("mattermost/calls-recorder:v1.0.0") == "recorders"
    assert images.image("mattermost/calls-transcriber:v1.0.0") == "all"


def test_only_the_star_is_special() -> None:
    images = RunnerImages({"a.b*": "fits"}, use_reference_images=True)
    assert images.image("axb1") == "axb1"
    assert images.image("a.b1") == "fits"
