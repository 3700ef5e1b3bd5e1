"""`offloader store …` on a store of its own, without a service."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from offloader.cli.main import main
from offloader.store.migrate import HEAD
from offloader.store.stores import open_stores

SITE = "http://mm.example"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a service that has run here."""
    monkeypatch.delenv("OFFLOADER_SECRET_KEY", raising=False)

    async def serve() -> None:
        path = str(tmp_path / "offloader.db")
        async with open_stores(path, environ={}, state_dir=tmp_path) as stores:
            await stores.clients.put("plugin", "hash")
            await stores.secrets.put_secret("q1w2e3r4t5z6", "plugin", SITE, "t" * 26)

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        runner.run(serve())
    path = tmp_path / "config.toml"
    path.write_text(f'[store]\ndata_source = "{tmp_path}/offloader.db"\n')
    return path


def run(config: Path, *arguments: str | Path) -> int:
    command, *rest = map(str, arguments)
    return main(["store", command, "--config", str(config), *rest])


def test_what_was_backed_up_is_restored_and_looked_over(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "backup.tar"
    assert run(config, "backup", file) == 0
    told = capsys.readouterr().out
    assert (
        f"keep it elsewhere, stored tokens are lost without it: {tmp_path}/offloader.db.key" in told
    )
    assert run(config, "check", file) == 0
    with closing(sqlite3.connect(tmp_path / "offloader.db")) as connection:
        connection.execute("DELETE FROM clients")
        connection.commit()
    capsys.readouterr()
    assert run(config, "restore", "--json", file) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["schema"], done["secrets"], done["unreadable"]) == (HEAD, 1, 0)
    with closing(sqlite3.connect(tmp_path / "offloader.db")) as connection:
        assert connection.execute("SELECT id FROM clients").fetchall() == [("plugin",)]
    with closing(sqlite3.connect(done["replaced"])) as connection:
        assert connection.execute("SELECT id FROM clients").fetchall() == []
    assert run(config, "check") == 0
    assert "1 stored secrets can be opened" in capsys.readouterr().out


def test_a_key_that_opens_nothing_of_the_backup_is_told_of(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "backup.tar"
    assert run(config, "backup", file, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["with_key"], document["schema"]) == (False, HEAD)
    (tmp_path / "offloader.db.key").write_text("k" * 40)
    assert run(config, "restore", file) == 0
    assert "1 of 1 stored secrets cannot be opened by the key here" in capsys.readouterr().out


@pytest.mark.documents("a-store-with-problems")
def test_each_problem_has_a_line_and_the_exit_code_says_that_there_is_one(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], documented
) -> None:
    (tmp_path / "offloader.db.key").unlink()
    with closing(sqlite3.connect(tmp_path / "offloader.db")) as connection:
        connection.execute("DROP TABLE sessions")
        connection.commit()
    (tmp_path / "offloader.audit.jsonl").write_text("no line of an audit\nnor this\n")
    assert run(config, "check") == 1
    out, err = capsys.readouterr()
    documented("a-store-with-problems", err)
    lines = out.splitlines()
    assert lines[0] == "error: table sessions is missing"
    assert lines[1].startswith("error: 1 of 1 stored secrets cannot be opened: ")
    assert "offloader.db.key" in lines[1]
    assert lines[2].startswith("error: the audit was changed: ")
    assert not (tmp_path / "offloader.db.key").exists(), "a look makes nothing"
    assert run(config, "check", "--json") == 1
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 3


@pytest.mark.documents("a-key-that-is-not-in-a-file")
def test_a_key_in_the_environment_does_not_get_into_a_backup(
    config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    documented,
) -> None:
    monkeypatch.setenv("OFFLOADER_SECRET_KEY", "k" * 40)
    assert run(config, "backup", tmp_path / "backup.tar", "--with-key") == 1
    documented("a-key-that-is-not-in-a-file", capsys.readouterr().err)
    assert not (tmp_path / "backup.tar").exists()
