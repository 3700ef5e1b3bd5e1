"""Steps `clock`, `cpu`, `limits`, `disk`: what this host leaves to jobs."""

from __future__ import annotations

import os
import resource
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from offloader.doctor import clock, disk, limits, machine, processor
from offloader.doctor.clock import KernelClock
from offloader.doctor.disk import Speed
from offloader.doctor.finding import Finding, Verdict
from offloader.doctor.step import Context

Examined = Callable[..., Context]
One = Callable[[Sequence[Finding], str], Finding]
Root = Callable[..., Path]
NOW_S = 1_800_000_000.0


# Clock


@pytest.mark.parametrize(
    ("kernel", "code", "verdict"),
    [
        (KernelClock(True, 0.001), "clock_synchronised", Verdict.OK),
        (KernelClock(True, 3.0), "clock_inexact", Verdict.NOTE),
        (KernelClock(False, 0.0), "clock_unsynchronised", Verdict.WARNING),
    ],
)
def test_the_kernels_word_on_the_clock_counts(
    kernel: KernelClock, code: str, verdict: Verdict
) -> None:
    found = clock.judge(now_s=NOW_S, read=lambda: kernel)
    assert (found.code, found.verdict) == (code, verdict)


def test_a_clock_before_the_release_is_wrong_whatever_the_kernel_says() -> None:
    found = clock.judge(now_s=0.0, read=lambda: KernelClock(True, 0.0))
    assert (found.code, found.verdict) == ("clock_wrong", Verdict.FAILURE)


@pytest.mark.parametrize(
    ("told", "code"), [("yes\n", "clock_synchronised"), (None, "clock_unknown")]
)
def test_without_the_kernels_word_timedatectl_is_asked(
    told: str | None, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "output_of", lambda _: told)
    assert clock.judge(now_s=NOW_S, read=lambda: None).code == code


def test_this_kernel_answers() -> None:
    kernel = clock.read_kernel_clock()
    assert kernel is not None
    assert kernel.error_s >= 0


# Processor

EPYC = "model name\t: AMD EPYC\nflags\t\t: fpu sse4_1 avx avx2 avx512f\n"


@pytest.mark.parametrize(
    ("cpuinfo", "kind", "code", "verdict"),
    [
        (EPYC, "x86_64", "cpu_features", Verdict.OK),
        ("flags : fpu sse4_1 avx\n", "x86_64", "cpu_no_avx2", Verdict.WARNING),
        ("", "x86_64", "cpu_unknown", Verdict.SKIPPED),
        ("Features\t: fp asimd aes\n", "aarch64", "cpu_features", Verdict.OK),
        ("Features\t: fp\n", "aarch64", "cpu_no_neon", Verdict.WARNING),
    ],
)
def test_the_processor_is_judged_by_what_models_compute_with(
    cpuinfo: str, kind: str, code: str, verdict: Verdict
) -> None:
    found = processor.judge_features(cpuinfo, kind)
    assert (found.code, found.verdict) == (code, verdict)


def test_features_are_told_by_name() -> None:
    assert processor.judge_features(EPYC, "x86_64").data["features"] == [
        *("sse4_1", "avx", "avx2", "avx512f")
    ]


async def test_a_limit_of_the_group_is_told(
    examined: Examined, one: One, machine_root: Root
) -> None:
    files = {
        "proc/cpuinfo": EPYC,
        "proc/meminfo": "MemTotal: 8388608 kB\n",
        "proc/self/cgroup": "0::/\n",
        "sys/fs/cgroup/cpu.max": "50000 100000\n",
        "proc/loadavg": "0 9999.0 0 1/1 1\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver": "acpi-cpufreq\n",
    }
    found = await processor.look(examined(root=machine_root(files)))
    assert one(found, "cpu_limited").data["cores"] == 0.5
    assert one(found, "cpu_busy").verdict is Verdict.NOTE
    assert one(found, "cpu_powersave").verdict is Verdict.NOTE


async def test_cores_are_told_and_one_alone_is_a_warning(
    examined: Examined, one: One, machine_root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = machine_root({"proc/meminfo": "MemTotal: 8388608 kB\n", "proc/loadavg": "0 0 0 1/1 1\n"})
    for cores, code in ((4, "cpu_amount"), (1, "cpu_one_core")):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert one(await processor.look(examined(root=root)), code).data["cores"] == cores


@pytest.fixture
def on_one_core(engine_missing: Callable[[str, str], None]) -> Iterator[None]:
    """This thread, and those that it starts, may compute on one core only."""
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        engine_missing("cores", "there is only one")
    os.sched_setaffinity(0, {min(cores)})
    yield
    os.sched_setaffinity(0, cores)


async def test_a_real_affinity_is_told(examined: Examined, one: One, on_one_core: None) -> None:
    assert one(await processor.look(examined()), "cpu_limited").data["cores"] == 1


async def test_this_processor_is_judged_by_its_own_features(
    examined: Examined, codes: Callable[..., list[str]]
) -> None:
    """Which of them depends on the host."""
    found = codes(await processor.look(examined(JOBS_APITYPE="docker")))
    assert {"cpu_features", "cpu_no_avx2", "cpu_no_neon", "cpu_unknown"} & set(found)
    assert {"cpu_amount", "cpu_one_core"} & set(found)


async def test_this_clock_is_judged_by_its_own_kernel(examined: Examined) -> None:
    """Which of them depends on the host: nothing is set here, since everybody has the same clock."""
    [found] = await clock.look(examined())
    assert found.code in ("clock_synchronised", "clock_inexact", "clock_unsynchronised")


# Limits


@pytest.fixture
def few_files() -> Iterator[None]:
    """As a shell with Debian's own limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_real_limit_of_this_shell_is_a_note(
    examined: Examined, one: One, few_files: None
) -> None:
    found = one(await limits.look(examined()), "limits_files_shell")
    assert (found.value, found.verdict) == ("1024", Verdict.NOTE)


@pytest.mark.parametrize(
    ("limit", "whose", "code"),
    [
        (65536, "the running service", "limits_files"),
        (1024, "calls-offloader.service", "limits_files_low"),
        (20000, "this shell", "limits_files"),
        (1024, "this shell", "limits_files_shell"),
    ],
)
def test_few_open_files_are_told_by_whose_they_are(limit: int, whose: str, code: str) -> None:
    assert [f.code for f in limits.judge_files((limit, whose))] == [code]


@pytest.mark.parametrize(
    ("text", "codes"),
    [("212992", ["limits_buffers_small"]), ("16777216", ["limits_buffers"]), ("", [])],
)
def test_small_receive_buffers_are_a_note(text: str, codes: list[str], tmp_path: Path) -> None:
    (tmp_path / "rmem_max").write_text(text)
    assert [f.code for f in limits.judge_buffers(tmp_path)] == codes


GOOD_UNIT = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "KillMode": "process",
    "OOMPolicy": "continue",
    "Delegate": "yes",
    "PrivateTmp": "no",
    "TimeoutStopUSec": "6min",
}


def test_a_unit_as_ours_is_good(examined: Examined) -> None:
    assert [f.code for f in limits.judge_unit(GOOD_UNIT, examined())] == ["limits_unit_good"]
    assert not list(limits.judge_unit({}, examined()))


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("KillMode", "control-group", "KillMode=process"),
        ("OOMPolicy", "stop", "OOMPolicy=continue"),
        ("Delegate", "no", "Delegate=yes"),
        ("PrivateTmp", "yes", "PrivateTmp=no"),
        ("TimeoutStopUSec", "1min 30s", "TimeoutStopSec=360"),
    ],
)
def test_a_unit_that_ends_recordings_is_a_warning_with_the_line(
    name: str, value: str, line: str, examined: Examined, one: One
) -> None:
    found = one(list(limits.judge_unit(GOOD_UNIT | {name: value}, examined())), "limits_unit")
    assert found.verdict is Verdict.WARNING
    assert line in found.fix[0]


@pytest.mark.parametrize(
    ("text", "seconds"), [("6min", 360), ("1min 30s", 90), ("500ms", 0.5), ("infinity", None)]
)
def test_spans_are_read_as_systemd_writes_them(text: str, seconds: float | None) -> None:
    assert limits.seconds(text) == seconds


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = self.server.content  # type: ignore[attr-defined]  # the test's own
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], int]]:
    """The port of a server that answers everything with a content."""
    servers: list[HTTPServer] = []

    def start(content: bytes) -> int:
        server = HTTPServer(("127.0.0.1", 0), Answering)
        server.content = content  # type: ignore[attr-defined]  # as above
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        servers.append(server)
        return server.server_port

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


async def test_who_has_the_port_is_told(
    examined: Examined, one: One, answering: Callable[[bytes], int]
) -> None:
    ours = answering(b'{"buildVersion": "v1.0.0"}')
    taken = answering(b"<html>")

    async def at(port: int) -> list[Finding]:
        return list(await limits.look(examined(API_HTTP_LISTENADDRESS=f"127.0.0.1:{port}")))

    assert "v1.0.0" in one(await at(ours), "limits_port").value
    assert one(await at(taken), "limits_port_taken").verdict is Verdict.FAILURE
    assert one(await at(1), "limits_port_free").verdict is Verdict.NOTE


async def test_of_a_worker_its_own_port_and_unit_are_looked_at(
    examined: Examined,
    one: One,
    answering: Callable[[bytes], int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    units = {"calls-offloader-worker.service": GOOD_UNIT}
    monkeypatch.setattr(limits, "read_unit", lambda name: units[name])
    port = answering(b'{"status": "ok"}')
    context = examined(worker=True, WORKER_LISTENADDRESS=f"127.0.0.1:{port}")

    found = await limits.look(context)

    assert one(found, "limits_port").value == "a worker answers: ok"
    assert one(found, "limits_unit_good").what == "calls-offloader-worker.service"


async def test_a_unit_without_a_limit_is_no_note_on_this_shell(
    examined: Examined, one: One, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = {"LoadState": "loaded", "MainPID": "0", "LimitNOFILE": "infinity"}
    monkeypatch.setattr(limits, "read_unit", lambda _: unit)
    found = one(await limits.look(examined()), "limits_files")
    assert found.data["of"] == "calls-offloader.service"


async def test_the_running_services_own_limit_counts(
    examined: Examined, one: One, machine_root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = machine_root({"proc/4242/limits": "Max open files            1024     4096    files\n"})
    monkeypatch.setattr(limits, "read_unit", lambda _: GOOD_UNIT | {"MainPID": "4242"})
    found = one(await limits.look(examined(root=root)), "limits_files_low")
    assert found.data == {"limit": 1024, "of": "the running service"}


# Disk


async def test_room_and_speed_of_a_real_disk_are_measured(examined: Examined) -> None:
    found = await disk.look(examined(JOBS_MINFREEDISK="1KiB", JOBS_MAXCONCURRENTJOBS="1"))
    speed = found[-1]
    assert speed.data["bytes_per_s"] > 0
    assert speed.data["fsync_s"] > 0


@pytest.mark.slow
async def test_a_full_disk_is_still_judged_by_its_room(
    examined: Examined, codes: Callable[..., list[str]], small_disk: Callable[[str], Path]
) -> None:
    context = examined(JOBS_PROCESS_JOBSDIR=str(small_disk("8m")), JOBS_MINFREEDISK="1GiB")
    assert codes(await disk.look(context)) == ["disk_forgets", "disk_low", "disk_unwritable"]


def test_a_measurement_never_has_a_file_that_could_be_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    sync = os.fsync

    def synced(descriptor: int) -> None:
        seen.extend(os.listdir(tmp_path))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    assert disk.measure(tmp_path).bytes_per_s > 0
    assert seen == []


async def test_with_quick_nothing_is_written(examined: Examined, one: One) -> None:
    assert one(await disk.look(examined(quick=True)), "disk_speed_quick")


async def test_less_than_has_to_be_free_is_a_failure(examined: Examined, one: One) -> None:
    context = examined(quick=True, JOBS_MINFREEDISK="900TiB")
    assert one(await disk.look(context), "disk_low").verdict is Verdict.FAILURE


async def test_less_than_an_hour_of_all_calls_is_a_warning(examined: Examined, one: One) -> None:
    context = examined(quick=True, JOBS_MINFREEDISK="1KiB", JOBS_MAXCONCURRENTJOBS="100000000")
    assert one(await disk.look(context), "disk_tight").verdict is Verdict.WARNING


async def test_enough_room_is_told_in_hours(examined: Examined, one: One, tmp_path: Path) -> None:
    free_bytes = shutil.disk_usage(tmp_path).free
    context = examined(quick=True, JOBS_MINFREEDISK="1KiB", JOBS_MAXCONCURRENTJOBS="1")
    hours = one(await disk.look(context), "disk_room").data["recorded_hours"]
    assert hours == pytest.approx(free_bytes / (450 << 20), rel=0.05)


async def test_a_directory_that_cannot_be_written_is_a_failure(
    examined: Examined, one: One, open_dir: Path, as_nobody: Callable[[], Any]
) -> None:
    context = examined(JOBS_PROCESS_JOBSDIR=str(open_dir / "jobs"))
    with as_nobody():
        found = one(await disk.look(context), "disk_unwritable")
    assert found.verdict is Verdict.FAILURE


async def test_a_directory_of_the_service_is_left_to_its_user(
    examined: Examined, one: One, open_dir: Path, as_nobody: Callable[[], Any]
) -> None:
    os.chown(open_dir, 1, 1)
    context = examined(JOBS_PROCESS_JOBSDIR=str(open_dir / "jobs"))
    with as_nobody():
        assert "sudo -u daemon" in one(await disk.look(context), "disk_other_user").cause


async def test_memory_as_a_disk_is_a_warning(
    examined: Examined, one: One, machine_root: Root, tmp_path: Path
) -> None:
    mounts = f"/dev/vda1 / ext4 rw 0 0\nnone {tmp_path} tmpfs rw 0 0\n"
    context = examined(quick=True, root=machine_root({"proc/mounts": mounts}))
    assert one(await disk.look(context), "disk_forgets").verdict is Verdict.WARNING


@pytest.mark.slow
async def test_few_inodes_are_a_warning(
    examined: Examined, one: One, small_disk: Callable[[str], Path]
) -> None:
    place = small_disk("64m,nr_inodes=100")
    context = examined(quick=True, JOBS_PROCESS_JOBSDIR=str(place), JOBS_MINFREEDISK="1KiB")
    assert one(await disk.look(context), "disk_inodes").verdict is Verdict.WARNING


@pytest.mark.parametrize(
    ("speed", "code"),
    [
        (Speed(100e6, 0.01), "disk_speed"),
        (Speed(30e6, 0.01), "disk_slow"),
        (Speed(100e6, 0.5), "disk_slow_sync"),
    ],
)
def test_the_disk_is_held_against_what_the_calls_write(speed: Speed, code: str) -> None:
    assert disk.judge_speed(speed, calls=10).code == code


@pytest.mark.parametrize("kind", ["docker", "kubernetes", "celery"])
async def test_jobs_elsewhere_have_disks_elsewhere(kind: str, examined: Examined, one: One) -> None:
    context = examined(JOBS_APITYPE=kind, K8S_NAMESPACE="calls")
    found = one(await disk.look(context), "disk_elsewhere")
    assert found.verdict is Verdict.SKIPPED
    assert ("offloader doctor --worker" in found.cause) is (kind == "celery")


async def test_of_a_worker_its_own_way_to_run_jobs_counts(
    examined: Examined, codes: Callable[..., list[str]]
) -> None:
    context = examined(worker=True, quick=True, JOBS_APITYPE="celery", JOBS_MINFREEDISK="1KiB")
    assert "disk_room" in codes(await disk.look(context))
    context = examined(worker=True, JOBS_APITYPE="celery", WORKER_APITYPE="docker")
    assert codes(await disk.look(context)) == ["disk_elsewhere"]


def test_the_mount_of_a_path_is_the_longest_one_above_it(machine_root: Root) -> None:
    text = "y /srv/deep nfs4 ro 0 0\nx /srv tmpfs rw 0 0\n/dev/a / ext4 rw 0 0\nz /sr ext4 rw 0 0\n"
    root = machine_root({"proc/mounts": text})
    kinds = [machine.mount_of(Path(p), root=root) for p in ("/srv/deep/er", "/srv/other", "/srvx")]
    assert [m and m.kind for m in kinds] == ["nfs4", "tmpfs", "ext4"]
    assert kinds[0] is not None
    assert (kinds[0].read_only, kinds[0].remote) == (True, True)
