"""An environment that conda linked into its package cache by symlinks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from envsync.errors import PreflightRefused
from tests.conda.template import Template
from tests.integration.push.tree_listing import published, tree
from tests.integration.relocation.local_push import push


@pytest.fixture
def prefix(conda_template: Template, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    return conda_template.copy(tmp_path / "source").path


def soften(prefix: Path) -> set[str]:
    """What `always_softlink` does: symlinks in place of hard links to the package cache."""
    packages = [path for path in (prefix / "pkgs").iterdir() if (path / "info").is_dir()]
    files = {
        path.stat().st_ino: path
        for package in packages
        for path in package.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    environment, changed = prefix / "envs/myenv", set()
    for path in environment.rglob("*"):
        name = str(path.relative_to(environment))
        if path.is_symlink():
            own = [package / name for package in packages if (package / name).is_symlink()]
            place = own[0] if own else None
        else:
            place = files.get(path.stat().st_ino) if path.is_file() else None
        if place is not None:
            above = path.parent.stat()
            path.unlink()
            path.symlink_to(place)
            os.utime(path.parent, ns=(above.st_atime_ns, above.st_mtime_ns))
            changed.add(name)
    return changed


def test_linked_environment_arrives_as_if_conda_had_copied(prefix: Path, tmp_path: Path) -> None:
    there = tmp_path / "b"
    push(prefix, there)
    wanted = published(tree(there / "envs/myenv"))
    linked = soften(prefix)
    assert len(linked) > 20
    # The version is the same one, by its bytes.
    again = push(prefix, there)
    assert again.outcome == "in-step"
    (line,) = [line for line in again.warnings if "package cache" in line]
    assert f" and {len(linked) - 3} more: links into conda's package cache" in line
    shutil.rmtree(there)
    pushed = push(prefix, there)
    assert not [line for line in pushed.warnings if "/pkgs/" in line]
    assert published(tree(there / "envs/myenv")) == wanted


def test_the_same_without_relocation(prefix: Path, tmp_path: Path) -> None:
    wanted = published(tree(prefix / "envs/myenv"))
    soften(prefix)
    push(prefix, tmp_path / "b", seen_at=prefix)
    assert published(tree(tmp_path / "b/envs/myenv")) == wanted


def test_outside_fail_is_not_about_them_and_a_package_that_is_gone_is(
    prefix: Path, tmp_path: Path
) -> None:
    linked = soften(prefix)
    with pytest.raises(PreflightRefused) as refused:
        push(prefix, tmp_path / "b", outside="fail")
    others = len(refused.value.details)
    assert not [line for line in refused.value.details if "/pkgs/" in line]
    shutil.rmtree(prefix / "pkgs")
    with pytest.raises(PreflightRefused) as refused:
        push(prefix, tmp_path / "b", outside="fail")
    assert f"{len(linked) + others} paths lead out" in refused.value.message
