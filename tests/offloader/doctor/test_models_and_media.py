"""Steps `models`, `media`, `benchmark`: what the jobs' packages tell of themselves, and what follows."""

from __future__ import annotations

import io
import json
import shutil
import sys
import tarfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from offloader.capacity_auto import Machine, read_machine
from offloader.doctor import benchmark, jobs_media, models, selfcheck
from offloader.doctor.finding import Finding, Verdict
from offloader.doctor.models import Model, judge
from offloader.doctor.recommendation import REFERENCE_ENCODE_S, ModelCost, recommend
from offloader.doctor.step import Context

Examined = Callable[..., Context]
One = Callable[[Sequence[Finding], str], Finding]
Looked = Callable[[Path], Awaitable[Sequence[Finding]]]
BUNDLED = Path(__file__).parents[3] / "models"
GIB = 1 << 30
MACHINE = Machine(16.0, 64 * GIB)


# Models


def test_the_models_that_the_plugin_asks_for_have_to_be_there(one: One) -> None:
    found = list(judge([Model("faster-whisper-base", 75 << 20)], "/models", MACHINE))
    assert one(found, "models_default_missing").what == "model tiny"
    assert one(found, "models_there").verdict is Verdict.OK


def test_a_model_that_fits_no_memory_is_a_warning(one: One) -> None:
    found = list(judge([Model("large-v3", 3 * GIB)], "/models", Machine(2.0, 4 * GIB)))
    assert one(found, "models_too_large").verdict is Verdict.WARNING


def test_a_toy_is_called_one(one: One) -> None:
    assert (
        one(list(judge([Model("base", 2 << 20)], "/m", MACHINE)), "models_toy").verdict
        is Verdict.NOTE
    )


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda place: None, "models_none"),
        (lambda place: place.rmdir(), "models_no_directory"),
        (lambda place: (place / "ggml-base.bin").touch(), "models_ggml"),
    ],
)
async def test_a_directory_without_models_is_a_warning_with_its_reason(
    make: Callable[[Path], Any], code: str, tmp_path: Path, looked_at: Looked
) -> None:
    place = tmp_path / "models"
    place.mkdir()
    make(place)
    found = await looked_at(place)
    assert [(f.code, f.verdict) for f in found] == [(code, Verdict.WARNING)]


async def test_a_directory_that_cannot_be_read_is_told(
    open_dir: Path, as_nobody: Callable[[], Any], one: One, looked_at: Looked
) -> None:
    place = open_dir / "models"
    place.mkdir(mode=0o700)
    with as_nobody():
        found = await looked_at(place)
    assert one(found, "models_unreadable").cause == "nobody may not read it"


async def test_a_model_without_its_files_is_a_failure(
    tmp_path: Path, one: One, looked_at: Looked
) -> None:
    sized(tmp_path / "base", 75 << 20)
    found = await looked_at(tmp_path)
    assert one(found, "models_incomplete").value == "without tokenizer.json"
    assert one(found, "models_there").what == "model base"


async def test_a_model_larger_than_this_hosts_memory_is_a_warning(
    tmp_path: Path, one: One, looked_at: Looked
) -> None:
    sized(tmp_path / "large-v3", 1 << 42)
    assert one(await looked_at(tmp_path), "models_too_large").verdict is Verdict.WARNING


def sized(folder: Path, size_bytes: int) -> None:
    """A model without its tokenizer, of a size that it takes no room for."""
    folder.mkdir()
    (folder / "config.json").touch()
    with (folder / "model.bin").open("wb") as file:
        file.truncate(size_bytes)


@pytest.fixture
def looked_at(examined: Examined) -> Looked:
    """What the step finds in a directory; hashes are left out."""

    async def look(directory: Path) -> Sequence[Finding]:
        return await models.look(examined(quick=True, JOBS_PROCESS_MODELSDIR=str(directory)))

    return look


@pytest.fixture
def own_models(tmp_path: Path) -> Path:
    """The bundled model under the name base, with its hashes."""
    place = tmp_path / "own" / "base"
    shutil.copytree(BUNDLED / "whisper-words-ct2", place)
    return place.parent


async def test_models_are_held_against_their_hashes(
    examined: Examined, own_models: Path, one: One
) -> None:
    context = examined(JOBS_PROCESS_MODELSDIR=str(own_models))
    assert one(await models.look(context), "models_whole").value == "no SHA256SUMS there"

    sums = own_models / "base" / "SHA256SUMS"
    sums_of(sums, "0" * 64)
    found = one(await models.look(context), "models_damaged")
    assert (found.what, found.verdict) == ("model base", Verdict.FAILURE)

    assert one(
        await models.look(examined(quick=True, JOBS_PROCESS_MODELSDIR=str(own_models))),
        "models_hashes_quick",
    )


def sums_of(path: Path, digest: str) -> None:
    path.write_text(f"{digest}  model.bin\n")


async def test_hashes_that_nobody_can_make_are_skipped(
    examined: Examined, own_models: Path, one: One
) -> None:
    context = examined(
        JOBS_PROCESS_MODELSDIR=str(own_models), JOBS_PROCESS_TRANSCRIBERCOMMAND="/bin/own,run"
    )
    assert one(await models.look(context), "models_not_verified").verdict is Verdict.SKIPPED


@pytest.mark.parametrize(
    ("environ", "code"),
    [
        ({"JOBS_APITYPE": "kubernetes", "K8S_NAMESPACE": "calls"}, "models_elsewhere"),
        ({"JOBS_APITYPE": "docker", "DOCKER_HOST": "unix:///none"}, "models_unseen"),
    ],
)
async def test_models_out_of_reach_are_skipped(
    environ: Mapping[str, str], code: str, examined: Examined, one: One
) -> None:
    assert one(await models.look(examined(**environ)), code).verdict is Verdict.SKIPPED


# Media

FACTS: Mapping[str, Any] = {
    "codecs": dict.fromkeys(
        ("libx264", "aac", "libopus", "libvpx", "libvpx-vp9", "h264", "libdav1d"), True
    ),
    "fonts_missing": [],
    "speech": {"ctranslate2": "4.8.5", "cpu_types": ["float32", "int8"], "cuda_devices": 0},
}


@pytest.mark.parametrize(
    ("program", "changes", "code", "verdict"),
    [
        (
            "recorder",
            {"codecs": {"libopus": True, "libvpx": True, "aac": True}},
            "media_codec_missing",
            Verdict.FAILURE,
        ),
        (
            "recorder",
            {"codecs": FACTS["codecs"] | {"libdav1d": False}},
            "media_codec_wished",
            Verdict.NOTE,
        ),
        (
            "recorder",
            {"fonts_missing": [{"package": "libfribidi0", "effect": "names"}]},
            "media_fonts_missing",
            Verdict.NOTE,
        ),
        ("transcriber", {"speech": None}, "media_no_speech", Verdict.WARNING),
        ("transcriber", {"speech": {"error": "no module"}}, "media_no_speech", Verdict.WARNING),
        ("transcriber", {"speech": {"cpu_types": ["float32"]}}, "media_no_int8", Verdict.WARNING),
    ],
)
async def test_what_a_program_lacks_is_told(
    program: str,
    changes: Mapping[str, Any],
    code: str,
    verdict: Verdict,
    program_that: Callable[..., str],
    examined: Examined,
) -> None:
    command = program_that({"facts": {**FACTS, **changes}})
    context = examined(
        JOBS_PROCESS_RECORDERCOMMAND=f"{command},-m,jobs.recorder",
        JOBS_PROCESS_TRANSCRIBERCOMMAND=f"{command},-m,jobs.transcriber",
    )
    every = await jobs_media.look(context)
    found = [f for f in every if f.code == code and f.what.startswith(program)]
    assert found
    assert found[0].verdict is verdict
    assert found[0].cause


@pytest.fixture
def program_that(tmp_path: Path) -> Callable[[Mapping[str, Any]], str]:
    """A program that prints, by the first argument after `-m jobs.selfcheck`, this as JSON."""

    def make(answers: Mapping[str, Any]) -> str:
        cases = [f"{name}) echo '{json.dumps(answer)}';;" for name, answer in answers.items()]
        return str(script(tmp_path, "\n".join(['case "$3" in', *cases, "*) exit 1;;", "esac"])))

    return make


async def test_the_programs_of_this_host_tell_of_themselves(
    examined: Examined, codes: Callable[..., list[str]]
) -> None:
    found = codes(await jobs_media.look(examined()))
    assert [code for code in found if not code.startswith("media_fonts")] == [
        "media_codecs",
        "media_codecs",
        "media_speech",
    ]
    assert {"media_fonts", "media_fonts_missing"} & set(found)


@pytest.mark.parametrize(
    ("command", "code", "verdict"),
    [
        ("/none/python,-m,jobs.recorder", "media_cannot_run", Verdict.FAILURE),
        ("/bin/false,-m,jobs.recorder", "media_cannot_run", Verdict.FAILURE),
        ("/opt/own-recorder", "media_own_command", Verdict.SKIPPED),
    ],
)
async def test_a_program_that_does_not_run_is_told(
    command: str, code: str, verdict: Verdict, examined: Examined, one: One
) -> None:
    context = examined(
        JOBS_PROCESS_RECORDERCOMMAND=command,
        JOBS_PROCESS_TRANSCRIBERCOMMAND="/bin/false,-m,jobs.transcriber",
    )
    found = [each for each in await jobs_media.look(context) if each.what == "recorder"]
    assert one(found, code).verdict is verdict


async def test_a_python_without_the_jobs_is_told_what_to_install(
    examined: Examined, tmp_path: Path
) -> None:
    bare = script(tmp_path, 'echo "python3: No module named jobs" >&2; exit 1')
    context = examined(JOBS_PROCESS_RECORDERCOMMAND=f"{bare},-m,jobs.recorder")
    with pytest.raises(selfcheck.NoSelfcheck, match="the jobs are not installed there"):
        await selfcheck.run_selfcheck(context, "recorder", "facts", timeout_s=10)


async def test_a_program_that_hangs_is_ended(examined: Examined, tmp_path: Path) -> None:
    slow = script(tmp_path, "exec sleep 60")
    context = examined(JOBS_PROCESS_RECORDERCOMMAND=f"{slow},-m,jobs.recorder")
    with pytest.raises(selfcheck.NoSelfcheck, match=r"not done within 0\.2 s"):
        await selfcheck.run_selfcheck(context, "recorder", "facts", timeout_s=0.2)


async def test_a_program_that_is_killed_is_told_by_its_signal(
    examined: Examined, tmp_path: Path
) -> None:
    killed = script(tmp_path, "kill -ILL $$")
    context = examined(JOBS_PROCESS_RECORDERCOMMAND=f"{killed},-m,jobs.recorder")
    with pytest.raises(selfcheck.NoSelfcheck, match="killed by signal 4"):
        await selfcheck.run_selfcheck(context, "recorder", "facts", timeout_s=10)


def script(directory: Path, text: str) -> Path:
    path = directory / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


async def test_jobs_on_other_hosts_have_their_media_there(examined: Examined, one: One) -> None:
    context = examined(JOBS_APITYPE="kubernetes", K8S_NAMESPACE="calls")
    assert one(await jobs_media.look(context), "media_elsewhere").verdict is Verdict.SKIPPED
    with pytest.raises(selfcheck.NoSelfcheck, match="jobs do not run on this host"):
        await selfcheck.run_selfcheck(context, "recorder", "facts", timeout_s=1)


PYTHON_IN_IMAGE = """#!/bin/sh
[ "$1 $2 $3" = "-m jobs.selfcheck facts" ] || exit 9
touch /made 2>/dev/null && made=true || made=false
printf '{"net": "%s", "made": %s}' "$(ls /sys/class/net | tr -d '\\n')" $made
"""


@pytest.fixture
def talking_image(tiny_images: Any) -> Iterator[str]:
    """An image whose python answers as `jobs.selfcheck facts` does."""
    content = io.BytesIO(tiny_images.root)
    with tarfile.open(fileobj=content, mode="a") as tar:
        member = tarfile.TarInfo("bin/python")
        member.size, member.mode = len(PYTHON_IN_IMAGE.encode()), 0o755
        tar.addfile(member, io.BytesIO(PYTHON_IN_IMAGE.encode()))
    name = f"{tiny_images.run_id}/talking"
    tiny_images.client.import_image_from_data(
        content.getvalue(), repository=name, tag="1", changes=["ENV PATH=/bin"]
    )
    yield f"{name}:1"
    tiny_images.client.remove_image(f"{name}:1", force=True)


@pytest.mark.slow
async def test_a_jobs_image_tells_of_itself_without_rights_and_leaves_nothing(
    examined: Examined, talking_image: str, tiny_images: Any
) -> None:
    images = json.dumps({"*": talking_image})
    engine = tiny_images.environ.get("DOCKER_HOST", "")
    context = examined(JOBS_APITYPE="docker", JOBS_RUNNERIMAGES=images, DOCKER_HOST=engine)

    told = await selfcheck.run_selfcheck(context, "recorder", "facts", timeout_s=20)

    assert told == {"net": "lo", "made": False}
    left = tiny_images.client.containers(all=True, filters={"ancestor": talking_image})
    assert left == []


@pytest.mark.slow
async def test_a_missing_directory_of_models_is_not_made_by_looking(
    examined: Examined, talking_image: str, tmp_path: Path, one: One
) -> None:
    images, place = json.dumps({"*": talking_image}), tmp_path / "gone"
    context = examined(
        f'[jobs.docker]\nmodels_dir = "{place}"\n',
        JOBS_APITYPE="docker",
        JOBS_RUNNERIMAGES=images,
    )

    await selfcheck.run_selfcheck(context, "transcriber", "facts", timeout_s=20)
    with pytest.raises(selfcheck.NoSelfcheck, match="no directory"):
        await selfcheck.run_selfcheck(context, "transcriber", "models", "/models", timeout_s=20)

    assert not place.exists()
    told = one(await models.look(context), "models_no_directory")
    assert told.fix[0] == "jobs.docker.models_dir = DIRECTORY"


@pytest.mark.slow
async def test_an_image_without_a_program_is_told_by_its_name(
    examined: Examined, tiny_images: Any
) -> None:
    image = tiny_images.image("/bin/true")
    context = examined(JOBS_APITYPE="docker", JOBS_RUNNERIMAGES=json.dumps({"*": image}))
    with pytest.raises(selfcheck.NoSelfcheck, match=image):
        await selfcheck.run_selfcheck(context, "recorder", "facts", timeout_s=20)


# Benchmark

TINY = ModelCost("tiny", 0.12, 0.02, 270 << 20)
BASE = ModelCost("base", 0.25, 0.045, 340 << 20)
SMALL = ModelCost("small", 0.8, 0.14, 570 << 20)
SLOW = ModelCost("base", 4.0, 0.9, 340 << 20)


def test_on_the_documented_machine_the_documented_numbers_come_out() -> None:
    found = recommend(
        Machine(16.0, 64 * GIB), encode_s=REFERENCE_ENCODE_S, models={}, post_call_slots=2
    )
    assert found.slower == 1.0
    assert 7 <= found.calls <= 9  # docs/scaling.md, recorded with live captions, 16 cores
    assert 45 <= found.calls_without_captions <= 55


def test_a_processor_of_half_the_speed_bears_half_the_calls() -> None:
    whole = recommend(MACHINE, encode_s=REFERENCE_ENCODE_S, models={}, post_call_slots=2)
    half = recommend(MACHINE, encode_s=2 * REFERENCE_ENCODE_S, models={}, post_call_slots=2)
    assert half.calls_without_captions == whole.calls_without_captions // 2


def test_the_largest_model_that_keeps_up_is_chosen() -> None:
    costs = {cost.name: cost for cost in (TINY, BASE, SMALL)}
    found = recommend(MACHINE, encode_s=REFERENCE_ENCODE_S, models=costs, post_call_slots=2)
    assert (found.text_model, found.caption_model, found.threads) == ("small", "base", 4)
    one_core = recommend(
        Machine(1.0, 8 * GIB), encode_s=REFERENCE_ENCODE_S, models={"base": SLOW}, post_call_slots=1
    )
    assert (one_core.text_model, one_core.caption_model, one_core.calls) == ("", "", 1)


def test_memory_limits_the_calls_too() -> None:
    found = recommend(
        Machine(64.0, 6 * GIB),
        encode_s=REFERENCE_ENCODE_S,
        models={"tiny": TINY},
        post_call_slots=2,
    )
    assert found.calls == int(3 * GIB / ((160 + 240 + 270) << 20))


@pytest.fixture
def selfcheck_told(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What `jobs.selfcheck` tells by its first argument; a text is a failure of it."""

    def use(answers: Mapping[str, Any]) -> None:
        async def run(_: Context, __: str, *arguments: str, **___: Any) -> Mapping[str, Any]:
            answer = answers[arguments[0]]
            if isinstance(answer, str):
                raise selfcheck.NoSelfcheck(answer)
            found: Mapping[str, Any] = answer
            return found

        monkeypatch.setattr(benchmark, "run_selfcheck", run)
        monkeypatch.setattr(benchmark, "read_machine", lambda **_: MACHINE)

    return use


ENCODED = {"cpu_s_per_frame": REFERENCE_ENCODE_S, "cpu_s_per_recorded_s": 0.074}
LISTED = {"models": [{"name": "base", "bytes": 75 << 20}, {"name": "words", "bytes": 2 << 20}]}
COST = {"caption_cpu_s": 0.25, "cpu_s_per_speech_s": 0.045, "peak_rss_bytes": 340 << 20}


@pytest.mark.parametrize(
    ("configured", "code", "verdict"),
    [
        ("2", "benchmark_more_possible", Verdict.NOTE),
        ("20", "benchmark_calls", Verdict.OK),
        ("500", "benchmark_too_many", Verdict.WARNING),
    ],
)
async def test_the_configured_number_of_calls_is_judged(
    configured: str,
    code: str,
    verdict: Verdict,
    selfcheck_told: Callable[..., None],
    examined: Examined,
    one: One,
) -> None:
    selfcheck_told({"encode": ENCODED, "models": LISTED, "model": COST})
    found = await benchmark.look(examined(JOBS_MAXCONCURRENTJOBS=configured))
    calls = one(found, code)
    assert calls.verdict is verdict
    again = [line for line in calls.fix if line.startswith("offloader doctor")]
    assert all("/config.toml --only benchmark --write" in line for line in again)
    assert bool(again) is (verdict is not Verdict.OK)
    assert one(found, "benchmark_model").data == COST
    assert calls.settings == ({} if verdict is Verdict.OK else {"jobs.max_concurrent_jobs": 9})
    assert one(found, "benchmark_models").plugin == {
        "TranscriberNumThreads": 4,
        "TranscriberModelSize": "base",
        "LiveCaptionsModelSize": "base",
        "LiveCaptionsNumTranscribers": 1,
        "LiveCaptionsNumThreadsPerTranscriber": 4,
    }


async def test_of_a_worker_its_places_are_judged(
    selfcheck_told: Callable[..., None], examined: Examined, one: One
) -> None:
    selfcheck_told({"encode": ENCODED, "models": LISTED, "model": COST})
    context = examined(worker=True, WORKER_SLOTS="1")
    found = one(await benchmark.look(context), "benchmark_more_possible")
    assert found.settings == {"worker.slots": 9}


async def test_a_model_too_slow_for_captions_is_told(
    selfcheck_told: Callable[..., None], examined: Examined, one: One
) -> None:
    selfcheck_told({"encode": ENCODED, "models": LISTED, "model": COST | {"caption_cpu_s": 9.0}})
    found = one(await benchmark.look(examined()), "benchmark_no_captions")
    assert found.plugin["EnableLiveCaptions"] is False


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ({"encode": "no recorder"}, "benchmark_impossible"),
        ({"encode": ENCODED, "models": "no transcriber"}, "benchmark_no_model"),
        ({"encode": ENCODED, "models": {"models": []}}, "benchmark_no_model"),
        (
            {"encode": ENCODED, "models": {"models": [{"name": "base", "bytes": 2 << 20}]}},
            "benchmark_no_model",
        ),
        ({"encode": ENCODED, "models": LISTED, "model": "no memory"}, "benchmark_model_fails"),
    ],
)
async def test_what_cannot_be_measured_is_told(
    answers: Mapping[str, Any],
    code: str,
    selfcheck_told: Callable[..., None],
    examined: Examined,
    one: One,
) -> None:
    selfcheck_told(answers)
    assert one(await benchmark.look(examined()), code)


@pytest.mark.parametrize(
    ("answers", "calls", "codes"),
    [
        (("encode", "models", "model"), "all", ["benchmark_model", "benchmark_calls"]),
        (("encode", "models", "model"), "one", ["benchmark_model", "benchmark_more_possible"]),
        (("encode", "models", "model"), "more", ["benchmark_model", "benchmark_too_many"]),
        (("encode", "models", "slow"), "all", ["benchmark_no_captions"]),
        (("encode", "models"), "all", ["benchmark_model_fails"]),
        (("encode",), "all", ["benchmark_no_model"]),
        ((), "all", ["benchmark_impossible"]),
    ],
    ids=["calls", "more_possible", "too_many", "no_captions", "fails", "no_model", "impossible"],
)
async def test_what_programs_measure_is_held_against_this_host(
    answers: Sequence[str],
    calls: str,
    codes: Sequence[str],
    program_that: Callable[..., str],
    examined: Examined,
) -> None:
    encoded = ENCODED | {"cpu_s_per_frame": REFERENCE_ENCODE_S / 1000}
    quick = COST | {"caption_cpu_s": 0.001, "cpu_s_per_speech_s": 0.0001, "peak_rss_bytes": 1 << 20}
    known = {"encode": encoded, "models": LISTED, "model": quick}
    told = {name: known[name] for name in answers if name in known}
    if "slow" in answers:
        told["model"] = COST | {"caption_cpu_s": 99.0, "cpu_s_per_speech_s": 0.001}
    command = program_that(told)
    bears = recommend(
        read_machine(own_limits=True),
        encode_s=encoded["cpu_s_per_frame"],
        models={"base": ModelCost("base", **quick)},
        post_call_slots=1,
    )
    configured = {"all": bears.calls, "one": 1, "more": bears.calls_without_captions + 1}[calls]
    found = await benchmark.look(
        examined(
            JOBS_MAXCONCURRENTJOBS=str(configured),
            JOBS_POSTCALLSLOTS="1",
            JOBS_PROCESS_RECORDERCOMMAND=f"{command},-m,jobs.recorder",
            JOBS_PROCESS_TRANSCRIBERCOMMAND=f"{command},-m,jobs.transcriber",
        )
    )
    assert set(codes) <= {each.code for each in found}


async def test_with_quick_nothing_is_measured(examined: Examined, one: One) -> None:
    assert (
        one(await benchmark.look(examined(quick=True)), "benchmark_quick").verdict
        is Verdict.SKIPPED
    )


@pytest.mark.slow
async def test_the_real_benchmark_measures_encoder_and_calls(
    examined: Examined, codes: Callable[..., list[str]]
) -> None:
    context = examined(
        JOBS_PROCESS_MODELSDIR=str(BUNDLED),
        JOBS_PROCESS_RECORDERCOMMAND=f"{sys.executable},-m,jobs.recorder",
    )
    found = await benchmark.look(context)
    assert codes(found)[0] == "benchmark_encoder"
    assert found[0].data["frames"] > 10
    assert codes(found)[-1] == "benchmark_models"
