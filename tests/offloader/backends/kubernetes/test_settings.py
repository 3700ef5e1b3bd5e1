"""The group `jobs.kubernetes`: YAML, JSON and tables, and errors that name key and wanted form."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation.layered_config import ConfigError
from offloader.models import JobType
from offloader.settings import load_settings


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("JOBS_KUBERNETES_JOBSRESOURCEREQUIREMENTS", "recorder: {}", ("'recorder'", "recording")),
        ("JOBS_KUBERNETES_JOBSRESOURCEREQUIREMENTS", "recording: [", ("YAML", "line 1")),
        ("JOBS_KUBERNETES_PODTEMPLATE", "recording: 3", ("recording: should be a map",)),
        ("K8S_JOB_POD_TOLERATIONS", '"a text"', ("list of tolerations",)),
        ("K8S_JOB_POD_TOLERATIONS_FILE", "/no/such/file", ("/no/such/file", "cannot be read")),
        ("JOBS_KUBERNETES_NODESYSCTLS", "vm.swappiness", ("name=value",)),
        ("JOBS_KUBERNETES_NODESYSCTLS", "vm.swappiness=1; reboot", ("name=value",)),
        ("K8S_NAMESPACE", "Calls", ("small letters",)),
        ("JOBS_KUBERNETES_INSTANCE", "../other", ("letters",)),
        ("JOBS_KUBERNETES_CACONFIGMAP", "ca/a b", ("name/key",)),
        ("JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMDIR", "/claim", ("claim_name",)),
        ("JOBS_KUBERNETES_LOGMAXSIZE", "1KiB", ("at least",)),
    ],
)
def test_what_cannot_be_used_is_named_where_jobs_run_that_way_and_harmless_elsewhere(
    variable, value, words
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(JOBS_APITYPE="kubernetes", **{variable: value})
    assert variable in str(caught.value)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    if variable != "JOBS_KUBERNETES_LOGMAXSIZE":
        load(JOBS_APITYPE="process", **{variable: value})


def test_tables_of_the_file_and_texts_of_both_kinds_mean_the_same(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[jobs.kubernetes.jobs_resource_requirements.recording.limits]\ncpu = "2"\n')
    wanted = {JobType.RECORDING: {"limits": {"cpu": "2"}}}
    assert load_settings(path, {}).jobs.kubernetes.resources == wanted
    for text in ('{"recording":{"limits":{"cpu":"2"}}}', "recording: {limits: {cpu: '2'}}"):
        made = load(JOBS_KUBERNETES_JOBSRESOURCEREQUIREMENTS=text)
        assert made.resources == wanted


def test_tolerations_of_variable_and_file_add_up_in_place_of_the_references(tmp_path) -> None:
    assert [toleration["key"] for toleration in load().tolerations] == ["utilities"]
    path = tmp_path / "tolerations.yaml"
    path.write_text("- {key: b, operator: Exists}\n")
    made = load(K8S_JOB_POD_TOLERATIONS="[{key: a}]", K8S_JOB_POD_TOLERATIONS_FILE=str(path))
    assert [toleration["key"] for toleration in made.tolerations] == ["a", "b"]


def load(**environ: str):
    return load_settings(
        Path("/nonexistent"), {"JOBS_APITYPE": "kubernetes", **environ}
    ).jobs.kubernetes
