"""What a server has in the way of what an environment holds."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from envsync.agent.places.base import is_conda_prefix
from envsync.agent.places.layout import base_layout
from envsync.agent.target.preparation import (
    base_obstacle,
    place_findings,
    require_sound_link,
    user_site_findings,
)
from envsync.errors import PreflightRefused

DIRECTORIES = [b"", b"lib", b"lib/python3.11", b"lib/python3.11/site-packages"]


def test_obstacle_to_an_installation_is_the_one_bootstrap_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = tmp_path / "conda"
    assert base_obstacle(str(prefix)) == ""
    prefix.mkdir()
    (prefix / "envs").mkdir()
    assert base_obstacle(str(prefix)) == ""
    (prefix / "notes").touch()
    assert base_obstacle(str(prefix)) == f"{prefix} has no conda, but contains other entries: notes"
    (tmp_path / "venv/bin").mkdir(parents=True)
    (tmp_path / "venv/bin/python").touch()
    assert base_obstacle(str(tmp_path / "venv")) == f"{tmp_path}/venv has another Python"
    (tmp_path / "link").symlink_to(prefix / "notes")
    assert base_obstacle(str(tmp_path / "link")).endswith("link is not a directory")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert base_obstacle(str(prefix)).startswith(f"{tmp_path} is not writable by ")


@pytest.mark.parametrize("made", [[], ["history"]])
def test_prefix_of_micromamba_without_packages_is_condas(tmp_path: Path, made: list[str]) -> None:
    for name in ("conda-meta", "envs", "pkgs"):
        (tmp_path / name).mkdir()
    for name in made:
        (tmp_path / "conda-meta" / name).touch()
    assert is_conda_prefix(os.fsencode(tmp_path))
    assert place_findings(base_layout(str(tmp_path))) == ()


@pytest.mark.parametrize("brought", [["bin/bash"], ["bin/bash", "bin/python"]])
def test_conda_whose_installer_was_killed_is_none_and_its_entries_are_named(
    tmp_path: Path, brought: list[str]
) -> None:
    """The installer makes an empty history before it installs any package."""
    for name in ["conda-meta/history", *brought]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name in ["envs", "pkgs"]:
        (tmp_path / name).mkdir()
    left = f"{tmp_path} has no conda, but contains other entries: bin, conda-meta"
    assert base_obstacle(str(tmp_path)) == left
    (finding,) = place_findings(base_layout(str(tmp_path)))
    assert (finding.message, finding.blocking) == (left, True)
    (tmp_path / "conda-meta/python-3.13.1-0.json").touch()
    assert place_findings(base_layout(str(tmp_path))) == ()


@pytest.mark.parametrize("name", ["python", "python3.11"])
def test_hint_for_a_program_named_as_the_prefix_does_not_remove_it(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "python3.11").touch()
    (tmp_path / "python").symlink_to("python3.11")
    prefix = str(tmp_path / name)
    with pytest.raises(PreflightRefused, match="is not a directory") as caught:
        require_sound_link(base_layout(prefix))
    assert caught.value.hint == "correct the `prefix:` of SERVER in the inventory"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / ".local/lib/python3.11/site-packages"
    path.mkdir(parents=True)
    return path


def test_a_user_site_is_told_unless_it_is_empty(site: Path, tmp_path: Path) -> None:
    assert user_site_findings(DIRECTORIES, str(tmp_path)) == ()
    (site / "numpy").mkdir()
    (found,) = user_site_findings(DIRECTORIES, str(tmp_path))
    assert (found.kind, found.blocking) == ("user-site", False)
    assert str(site) in found.message
    assert user_site_findings([b"lib/python3.12"], str(tmp_path)) == ()


@pytest.mark.parametrize("code", [errno.EACCES, errno.ESTALE])
def test_a_user_site_that_cannot_be_looked_into_is_told(
    code: int, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> list[str]:
        raise OSError(code, os.strerror(code), path)

    monkeypatch.setattr(os, "listdir", refuse)
    assert len(user_site_findings(DIRECTORIES, str(tmp_path))) == 1
