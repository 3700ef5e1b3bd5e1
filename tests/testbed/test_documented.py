"""What ends a demo, a selftest or the stand-in before there is a result."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from testbed import brokers, hosted_call, loadtest_recordings, ports
from testbed.brokers import BrokerMissing, RabbitServer
from testbed.container_watch import ContainerWatch, EngineMissing
from testbed.demo.conversation import CallFailed
from testbed.demo.job_records import settled_records
from testbed.demo.run import _Run
from testbed.demo.thread import ThreadError, lose_upload_part
from testbed.plugin.rtcd import Credentials, RtcdError, RtcdUrl
from testbed.plugin.rtcd_hosts import RtcdHosts
from testbed.stack import Stack, StartFailed


@pytest.mark.documents("a-port-that-the-demo-wants/2")
def test_a_port_that_is_not_ours_is_named(documented: Any) -> None:
    with pytest.raises(ports.PortTaken) as refused:
        ports._check_port(8065, "tcp", "the stand-in", "--plugin-port", "192.0.2.1")
    documented("a-port-that-the-demo-wants/2", str(refused.value))


@pytest.mark.documents("images-that-the-demo-lacks", "images-that-the-demo-lacks/2")
def test_a_demo_in_containers_needs_an_engine_and_its_images(
    documented: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
        with pytest.raises(EngineMissing) as no_engine:
            ContainerWatch(instance="x", directory=tmp_path)
    documented("images-that-the-demo-lacks/2", str(no_engine.value))

    def found(**_: object) -> Any:
        return SimpleNamespace(missing_images=lambda images: images)

    monkeypatch.setattr("testbed.stack.ContainerWatch", found)
    settings = SimpleNamespace(instance="x", work_dir=tmp_path, images=("recorder:v1",))
    with pytest.raises(StartFailed) as no_image:
        Stack._open_containers(SimpleNamespace(settings=settings))
    documented("images-that-the-demo-lacks", str(no_image.value))


@pytest.mark.documents("a-broker-that-the-demo-lacks/2")
def test_a_rabbitmq_that_is_not_installed_is_named(
    documented: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(brokers, "_RABBITMQ_PROGRAMS", tmp_path)
    with pytest.raises(BrokerMissing) as missing:
        RabbitServer(tmp_path)
    documented("a-broker-that-the-demo-lacks/2", str(missing.value))


@pytest.mark.documents(
    "a-broker-of-the-demo-that-does-not-start",
    "a-broker-of-the-demo-that-does-not-start/2",
    "a-broker-of-the-demo-that-does-not-start/3",
)
def test_a_broker_that_does_not_come_up_is_named(
    documented: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry = "a-broker-of-the-demo-that-does-not-start"
    ended = subprocess.Popen(["false"])
    ended.wait()
    with pytest.raises(StartFailed) as gone:
        brokers._await_answer("redis-server", ended, lambda: False, 20, tmp_path)
    documented(entry, str(gone.value))
    silent = subprocess.Popen(["sleep", "60"], start_new_session=True)
    with pytest.raises(StartFailed) as late:
        brokers._await_answer("redis-server", silent, lambda: False, -1, tmp_path)
    documented(f"{entry}/2", str(late.value))
    refusing = tmp_path / "rabbitmqctl"
    refusing.write_text("#!/bin/sh\necho 'Error: unable to do this' >&2\nexit 64\n")
    refusing.chmod(0o755)
    monkeypatch.setattr(brokers, "_RABBITMQ_PROGRAMS", tmp_path)
    with pytest.raises(StartFailed) as refused:
        RabbitServer.control(SimpleNamespace(_environment={}), "await_startup")
    documented(f"{entry}/3", str(refused.value))


@pytest.mark.documents(
    "a-call-of-the-demo-that-did-not-go-as-planned/3",
    "a-call-of-the-demo-that-did-not-go-as-planned/4",
    "a-call-of-the-demo-that-did-not-go-as-planned/5",
    "a-call-of-the-demo-that-did-not-go-as-planned/6",
)
async def test_a_call_without_its_posts_says_so(
    documented: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry = "a-call-of-the-demo-that-did-not-go-as-planned"
    job = SimpleNamespace(exit=0)
    with pytest.raises(CallFailed) as silent:
        _Run._raise_if_silent(
            SimpleNamespace(_logs=tmp_path), SimpleNamespace(jobs=lambda: [job, job])
        )
    documented(f"{entry}/3", str(silent.value))
    monkeypatch.setattr("testbed.demo.run._POSTS_LIMIT_S", -1)
    show: Any = SimpleNamespace(title=lambda text: None, progress=_NoBars)
    thread: Any = SimpleNamespace(results=asyncio.Event().wait)
    with pytest.raises(CallFailed) as late:
        await _Run._await_posts(SimpleNamespace(_show=show), SimpleNamespace(), thread)
    documented(f"{entry}/4", str(late.value))
    with pytest.raises(CallFailed) as no_service:
        await settled_records(tmp_path / "socket", limit_s=0)
    documented(f"{entry}/5", str(no_service.value))
    with pytest.raises(ThreadError) as no_stand_in:
        await lose_upload_part("http://127.0.0.1:9")
    documented(f"{entry}/6", str(no_stand_in.value))


class _NoBars:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


@pytest.mark.documents("a-call-of-the-demo-that-did-not-go-as-planned/2")
async def test_a_recording_that_fails_is_told_with_its_reason(documented: Any) -> None:
    jobs = {"jobs": {"recording": {"err": "no room", "start_at": 0}}}
    answer = SimpleNamespace(raise_for_status=lambda: SimpleNamespace(json=lambda: jobs))

    async def get(route: str) -> Any:
        return answer

    call: Any = SimpleNamespace(http=SimpleNamespace(get=get), channel_id="c")
    with pytest.raises(hosted_call.CallFailed) as failed:
        await hosted_call.HostedCall._recording(call, "start_at", 1)
    documented("a-call-of-the-demo-that-did-not-go-as-planned/2", str(failed.value))


@pytest.mark.documents(
    "an-sfu-that-the-demo-cannot-use/2",
    "an-sfu-that-the-demo-cannot-use/3",
    "an-sfu-that-the-demo-cannot-use/4",
    "an-sfu-that-the-demo-cannot-use/5",
)
async def test_an_sfu_that_is_away_is_named(
    documented: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry = "an-sfu-that-the-demo-cannot-use"

    async def nobody(host: str) -> list[str]:
        raise OSError("Name or service not known")

    async def loopback(host: str) -> list[str]:
        return ["127.0.0.1"]

    def hosts(resolve: Any) -> RtcdHosts:
        url = RtcdUrl.parse("http://sfu.example.com:9")
        return RtcdHosts(
            url, Credentials("standin", "k" * 32), on_message=_nothing, resolve=resolve
        )

    with pytest.raises(RtcdError) as unknown:
        await hosts(nobody).activate()
    documented(f"{entry}/2", str(unknown.value))
    with pytest.raises(RtcdError) as away:
        await hosts(loopback).activate()
    documented(f"{entry}/3", str(away.value))
    monkeypatch.delenv("RTCD_URL", raising=False)
    with pytest.raises(loadtest_recordings.OptionError) as unnamed:
        await loadtest_recordings._run(tmp_path)
    documented(f"{entry}/4", str(unnamed.value))
    with pytest.raises(RtcdError) as none:
        await hosts(loopback).host_for_new_call()
    documented(f"{entry}/5", str(none.value))


async def _nothing(message: object) -> None:
    return None
