"""Listing the environments of a prefix, also one that cannot be read."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from envsync.agent.places.records import Records
from envsync.agent.target import catalogue
from envsync.agent.target.catalogue import environments
from envsync.agent.wire.server_operations import EnvironmentFacts
from envsync.errors import PreflightRefused
from tests.support.ordinary_user import home_of_ordinary_user


def listed(prefix: Path) -> list[EnvironmentFacts]:
    return list(environments(str(prefix), (), {}, None))


def make_environment(prefix: Path, name: str) -> None:
    (prefix / "envs" / name / "conda-meta").mkdir(parents=True)
    (prefix / "envs" / name / "conda-meta/history").touch()
    (prefix / "conda-meta").mkdir(exist_ok=True)


def test_a_directory_of_environments_that_is_closed_is_named() -> None:
    with home_of_ordinary_user() as home:
        make_environment(home, "x")
        (home / "envs").chmod(0)
        with pytest.raises(PreflightRefused, match=r"/envs is closed to ") as refused:
            listed(home)
        assert refused.value.hint.startswith("ask ")
        (home / "envs").chmod(0o700)


def test_environment_that_cannot_be_read_keeps_no_other_off_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_environment(tmp_path, "good")
    make_environment(tmp_path, "bad")
    at = Records.at

    def fail(records: Records, inode: int) -> object:
        if inode == (tmp_path / "envs/bad").stat().st_ino:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return at(records, inode)

    monkeypatch.setattr(Records, "at", fail)
    problems = {facts.name: facts.problem for facts in listed(tmp_path)}
    assert problems == {"bad": "Input/output error", "good": ""}


def test_what_another_user_keeps_closed_has_one_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the version itself is closed as well, or only what envsync keeps of it."""
    closed = PreflightRefused("envsync's files for myenv there are closed")
    with home_of_ordinary_user() as home:
        make_environment(home, "myenv")
        file = home / "envs/myenv/secret"
        file.touch()
        for mode in (0o600, 0):
            file.chmod(mode)
            for known in (closed, None):
                monkeypatch.setattr(catalogue, "closed_records", lambda _, known=known: known)
                [facts] = listed(home)
                unread = "" if mode else "some files are not readable"
                assert facts.problem == (known.message if known else unread)
                assert bool(facts.revision) == bool(mode)
