"""Archives by the command: what conda-pack makes of a real environment, on another server."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from envsync.errors import PreflightRefused
from envsync.push.packing.pack_archive import write_archive
from envsync.push.packing.unpacking import unpack
from tests.conda import CondaPrefix
from tests.integration.push.command import Envsync
from tests.integration.push.places import environment
from tests.integration.push.real_environment import runs
from tests.integration.relocation.odd_prefixes import wrong_hashes
from tests.lab.lab import Lab

INVENTORY = """\
prefix: {prefix}
servers:
  server1: {{}}
  server2: {{prefix: {other}}}
  server3: {{}}
"""


@pytest.mark.timeout(60)
def test_packing_reports_its_progress(conda_prefix: CondaPrefix, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    archive = tmp_path / "myenv.tar.gz"
    place = conda_prefix.environment()
    write_archive(
        place, archive, "tar.gz", force=False, on_packed=lambda *figures: told.append(figures)
    )
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] > 10_000_000


@pytest.mark.timeout(60)
def test_hard_links_of_a_file_are_packed(conda_prefix: CondaPrefix, tmp_path: Path) -> None:
    """Of a user's, that is: what comes behind them is in the archive as well."""
    environment = conda_prefix.environment()
    for name in ("share/mine/one", "share/mine/other"):
        place = environment / name
        place.parent.mkdir(exist_ok=True)
        if name.endswith("one"):
            place.write_text("content")
        else:
            place.hardlink_to(environment / "share/mine/one")
    archive, top = tmp_path / "myenv.tar", tmp_path / "there"
    write_archive(environment, archive, "tar", force=False)
    top.mkdir()
    unpack(archive, top)
    assert (top / "share/mine/one").read_text() == "content"
    assert (top / "share/mine/other").read_text() == "content"


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(PreflightRefused, match="/proc cannot be written"):
        write_archive(tmp_path, Path("/proc/myenv.tar"), "tar", force=False)


@pytest.mark.timeout(60)
def test_interrupted_packing_leaves_nothing(
    conda_prefix: CondaPrefix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor in the directory for temporary files, where conda-pack would write first."""
    elsewhere, place = tmp_path / "tmp", tmp_path / "place"
    elsewhere.mkdir()
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))

    def interrupt(done_bytes: int, _: int) -> None:
        if done_bytes:
            assert any(path.is_file() for path in place.rglob("*"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_archive(
            conda_prefix.environment(), place / "e.tar", "tar", force=False, on_packed=interrupt
        )
    assert [*elsewhere.iterdir(), *place.iterdir()] == []


@pytest.mark.timeout(120)
def test_environment_packed_carried_and_unpacked_runs(conda_lab: Lab) -> None:
    controller, other = conda_lab.controller, conda_lab["server2"]
    envsync = Envsync(controller)
    place = other.path(other.prefix).parent / "a/much/longer/place/miniconda"
    place.parent.mkdir(parents=True)
    other.path(other.prefix).rename(place)
    there = f"{Path(other.prefix).parent}/a/much/longer/place/miniconda"
    configured = INVENTORY.format(prefix=controller.prefix, other=there)
    envsync.configure(configured)

    archive = f"{controller.home()}/myenv.tar.zst"
    packed = envsync.ok("pack", "myenv", "-o", archive).result
    assert packed["size_bytes"] == controller.path(archive).stat().st_size
    assert envsync.run("pack", "myenv", "-o", archive).error["code"] == "preflight-refused"
    assert envsync.run("pack", "myenv", "-o", "x.rar").error["code"] == "usage"
    assert list(controller.path(controller.home()).glob(".envsync-*")) == []

    unpack = ("unpack", archive, "server2")
    envsync.configure(configured + "environments: {myenv: {outside: fail}}\n")
    refused = envsync.run(*unpack).error
    assert refused["code"] == "preflight-refused"
    envsync.configure(configured)
    unpacked = envsync.ok(*unpack).server
    told = [line for line in unpacked["warnings"] if "absolute-to-nothing" in line]
    assert len(told) == 1
    assert told[0] in refused["details"]
    assert (unpacked["outcome"], unpacked["record"]["method"]) == ("pushed", "pack")
    # It is for whoever the user's own files are for, unless there are credentials in it (below).
    assert controller.path(archive).stat().st_mode & 0o777 == 0o644
    top = f"{there}/envs/myenv"
    # Whoever could use it where it was packed can use it here, too.
    modes = other.run(["find", top, "-type", "d", "-printf", "%m\n"]).stdout.split()
    assert set(modes) == {"755"}
    assert wrong_hashes(other.path(top)) == []
    assert other.run([f"{top}/bin/lab-cli"]).stdout == f"lab-cli {top}\n"
    assert other.run([f"{top}/bin/lab-where"]).stdout == f"{top}\n"
    assert other.run([f"{top}/bin/lab-native", "passwd", "root"]).stdout.startswith("root:")
    grep = ["grep", "-rlaF", "--exclude-dir=__pycache__", "--exclude-dir=conda-meta"]
    assert other.run([*grep, "_placehold", top], check=False).stdout == ""
    assert envsync.ok(*unpack).server["outcome"] == "in-step"
    again = envsync.push("server2", "--method", "pack").server
    assert (again["outcome"], again["method"]) == ("in-step", "pack")
    mirrored = envsync.push("server3").server
    assert mirrored["method_reason"].startswith("both are Linux")
    assert envsync.push("server3", "--method", "pack").server["outcome"] == "pushed"
    runs(conda_lab["server3"])
    assert wrong_hashes(environment(conda_lab["server3"])) == []
    assert environment(conda_lab["server3"]).exists()
    assert not list(controller.path(controller.home()).glob(".cache/envsync/unpacked/*/envs"))

    script = environment(controller) / "etc/conda/activate.d/env_vars.sh"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text("export HF_TOKEN=hf_abcdef\n")
    told = envsync.ok("pack", "myenv", "-o", archive, "--force").result["warnings"]
    assert told[-1] == (
        "credentials are in etc/conda/activate.d/env_vars.sh: whoever can read the archive can "
        "read them"
    )
    assert controller.path(archive).stat().st_mode & 0o777 == 0o600


@pytest.mark.timeout(60)
def test_a_full_disk_is_named_and_where_else_to_write(conda_lab: Lab) -> None:
    controller = conda_lab.controller
    there = controller.path(controller.prefix)
    storage = os.statvfs(there)
    used_bytes = (storage.f_blocks - storage.f_bfree) * storage.f_frsize
    controller.remount(f"size={used_bytes + (8 << 20)}")
    archive = f"{controller.prefix}/myenv.tar"
    error = Envsync(controller).run("pack", "myenv", "-o", archive).error
    assert error["code"] == "no-space"
    assert error["message"] == f"there is no space at {controller.prefix}: No space left on device"
    assert error["hint"] == "free some space there, or write the archive elsewhere: -o FILE"
    assert list(there.glob("*.tar")) == []
