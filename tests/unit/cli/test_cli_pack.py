"""What `envsync pack` says, and when."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from envsync.cli.invocation.invocation import Invocation
from envsync.cli.run.entry import run
from envsync.errors import SourceRefused
from envsync.push.packing import conda_pack_run
from tests.support.command_line import Envsync
from tests.support.documented_json import check_document


def make_environment(top: Path) -> Path:
    """Make one, and an inventory with its prefix; return the environment."""
    environment = top / "conda/envs/myenv"
    (environment / "conda-meta").mkdir(parents=True)
    (environment / "conda-meta/history").touch()
    (top / "envsync.yaml").write_text(f"prefix: {top / 'conda'}\nservers: {{here: {{}}}}\n")
    return environment


def test_it_is_told_what_is_packed_before_that_takes_its_time(
    envsync: Envsync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_environment(tmp_path)

    def pack(_open: object, _write: Callable[..., object]) -> tuple[str, ...]:
        if fails:
            raise SourceRefused("it changes", hint="wait")
        (tmp_path / "m.tar").write_bytes(b"12345")
        return ()

    monkeypatch.setattr("envsync.push.packing.pack_archive.pack_unchanged", pack)
    for fails in (True, False):
        told = envsync("pack", "myenv", "-o", "m.tar", ENVSYNC_SELF="here")
        first, *others = told.out.splitlines()
        assert first == "myenv -> m.tar ...", told
        assert [line.startswith("myenv -> m.tar: 5 B, ") for line in others] == [True] * (not fails)
    document = check_document(envsync("pack", "myenv", "-o", "m.tar", "--json").out)
    assert document["result"]["size_bytes"] == 5


@pytest.mark.parametrize(("umask", "mode"), [(0o000, 0o664), (0o022, 0o644), (0o077, 0o600)])
def test_an_archive_has_the_users_umask_and_is_never_world_writable(
    umask: int, mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pack(_: Path, output: Path, *__: object) -> tuple[str, ...]:
        output.touch()
        return ()

    make_environment(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(conda_pack_run, "run_conda_pack", pack)
    environ = {"HOME": str(tmp_path / "home"), "ENVSYNC_SELF": "here"}
    assert run(["pack", "myenv", "-o", "m.tar"], Invocation(environ, umask)) == 0
    assert (tmp_path / "m.tar").stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("stood", [None, b"the one of before"])
def test_source_that_changes_while_it_is_packed_leaves_no_archive(
    stood: bytes | None, envsync: Envsync, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor takes the place of one that stood there."""
    environment, archive = make_environment(tmp_path), tmp_path / "m.tar"
    if stood is not None:
        archive.write_bytes(stood)

    def pack(_: Path, output: Path, *__: object) -> tuple[str, ...]:
        output.write_bytes(b"half old, half new")
        (environment / "new").touch()
        return ()

    monkeypatch.setattr(conda_pack_run, "run_conda_pack", pack)
    told = envsync("pack", "myenv", "-o", "m.tar", "--force", ENVSYNC_SELF="here")
    assert told.status == 9, told
    assert "the source changed while it was packed" in told.err
    assert (archive.read_bytes() if archive.exists() else None) == stood
    assert not list(tmp_path.glob(".envsync-*"))
