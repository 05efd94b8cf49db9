"""Archives of an environment whose prefix is a symlink: its files name it by two paths."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.conda.interpreter import patchelf
from tests.integration.push.command import Envsync
from tests.integration.push.places import environment, site_packages
from tests.integration.push.real_environment import runs
from tests.lab.lab import Lab, LabHost

UNPACKED = ".cache/envsync/unpacked"


def behind_a_link(host: LabHost, prefix: str, real: str) -> None:
    """The host's prefix stands at `real` from now on, and `prefix` is a link to there."""
    place, link = host.path(real), host.path(prefix)
    place.parent.mkdir(parents=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    host.path(host.prefix).rename(place)
    link.symlink_to(os.path.relpath(real, Path(prefix).parent))


def add_files_that_name(host: LabHost, top: str, tag: str) -> None:
    """A script, a module, data, a link and a program of no package that name the path `top`."""
    here = environment(host)
    script = here / f"bin/where-{tag}"
    script.write_text(f"#!{top}/bin/python\nimport where_{tag}\nprint(where_{tag}.PREFIX)\n")
    script.chmod(0o755)
    (site_packages(host) / f"where_{tag}.py").write_text(f"PREFIX = {top!r}\n")
    (here / f"share/{tag}.txt").write_text(f"file://{top}/share {top}-other\n")
    (here / f"share/{tag}.json").write_text(json.dumps({"conda": f"{Path(top).parents[1]}/bin"}))
    (here / f"share/{tag}-link").symlink_to(f"{top}/bin")
    program = here / f"bin/native-{tag}"
    shutil.copy2(here / "bin/lab-native", program)
    patchelf("--force-rpath", "--set-rpath", f"{top}/lib:{top}/lib64", program)
    with (here / "conda-meta/history").open("a") as history:
        history.write(f"# cmd: conda create -p {top}\n")


def naming(host: LabHost, top: str, *paths: str) -> list[str]:
    """What names one of these, but for compiled code, whose paths Python sets."""
    patterns = [option for path in paths for option in ("-e", path)]
    grep = ["grep", "-rlaF", "--exclude-dir=__pycache__", *patterns, top]
    links = host.run(["find", top, "-type", "l", "-printf", "%p %l\n"]).stdout.splitlines()
    through = [line for line in links if any(path in line.split()[-1] for path in paths)]
    return host.run(grep, check=False).stdout.split() + through


def works(host: LabHost, top: str, *, compiled: bool = True) -> None:
    """It imports, its scripts start, and so do programs that have libraries beside them.

    Activated, that is: of some scripts conda-unpack leaves that.
    """
    for tag in ("name", "real"):
        activated = {"PATH": f"{top}/bin:{host.environment()['PATH']}"}
        assert host.run([f"{top}/bin/where-{tag}"], env=activated).stdout == f"{top}\n"
        if compiled:
            program = host.run([f"{top}/bin/native-{tag}", "passwd", "root"])
            assert program.stdout.startswith("root:")
            link = f"{top}/share/{tag}-link"
            assert host.run(["readlink", link]).stdout == f"{top}/bin\n"


@pytest.fixture
def linked(conda_lab: Lab) -> Lab:
    """The prefix is a link on the source, and its path the end of where that leads."""
    controller = conda_lab.controller
    behind_a_link(controller, controller.prefix, real(controller))
    add_files_that_name(controller, f"{controller.prefix}/envs/myenv", "name")
    add_files_that_name(controller, f"{real(controller)}/envs/myenv", "real")
    return conda_lab


def real(host: LabHost) -> str:
    return f"{storage(host)}/disk{host.prefix}"


def storage(host: LabHost) -> str:
    return f"/{Path(host.prefix).parts[1]}"


@pytest.mark.timeout(120)
def test_archive_of_a_linked_prefix_works_on_another_server(linked: Lab) -> None:
    """At the path that is a link where it was packed."""
    controller, other = linked.controller, linked["server2"]
    envsync, archive = Envsync(controller), f"{controller.home()}/myenv.tar"
    envsync.ok("pack", "myenv", "-o", archive)
    told = envsync.ok("unpack", archive, "server2").server["warnings"]
    top = f"{other.prefix}/envs/myenv"
    runs(other)
    works(other, top)
    assert naming(other, top, f"{storage(other)}/disk", UNPACKED) == []
    assert not [line for line in told if "cannot be rewritten" in line or "share/" in line]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("cached", [True, False], ids=["cached", "uncached"])
def test_pack_to_a_prefix_that_is_a_link_works(linked: Lab, cached: bool) -> None:
    """Also where conda's package cache has nothing, and files are packed as they are."""
    controller, other = linked.controller, linked["server2"]
    there = f"{storage(other)}/bob/mc"
    behind_a_link(other, there, f"{storage(other)}/elsewhere/mc")
    envsync = Envsync(controller)
    envsync.configure(
        f"prefix: {controller.prefix}\nservers: {{server1: {{}}, server2: {{prefix: {there}}}}}\n"
    )
    if not cached:
        shutil.rmtree(controller.path(f"{controller.prefix}/pkgs"))
    pushed = envsync.push("server2", "--method", "pack").server
    assert (pushed["outcome"], pushed["method"]) == ("pushed", "pack")
    top = f"{there}/envs/myenv"
    assert other.run([f"{top}/bin/lab-cli"]).stdout == f"lab-cli {top}\n"
    assert other.run([f"{top}/bin/lab-native", "passwd", "root"]).stdout.startswith("root:")
    works(other, top)
    here = [str(Path(path).parent) for path in (controller.prefix, real(controller))]
    assert naming(other, top, *here, UNPACKED) == []
    assert envsync.push("server2", "--method", "pack").server["outcome"] == "in-step"


@pytest.mark.timeout(120)
def test_conda_unpack_alone_finds_both_paths(linked: Lab) -> None:
    """Where there is no envsync; of programs that no package declared it knows nothing."""
    controller, other = linked.controller, linked["server2"]
    archive = f"{controller.home()}/myenv.tar"
    Envsync(controller).ok("pack", "myenv", "-o", archive)
    top = f"{other.prefix}/envs/myenv"
    other.path(top).mkdir(parents=True)
    shutil.copy(controller.path(archive), other.path(f"{other.prefix}/myenv.tar"))
    other.run(["tar", "-xf", f"{other.prefix}/myenv.tar", "-C", top])
    other.run([f"{top}/bin/python", f"{top}/bin/conda-unpack"])
    works(other, top, compiled=False)
    named = naming(other, top, f"{real(other)}/envs")
    assert {Path(line.split()[0]).name for line in named} <= {
        "native-real",
        "real-link",
        "conda-unpack",
    }
