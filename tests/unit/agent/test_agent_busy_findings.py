"""Signs that somebody is at work on an environment, from real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from envsync.agent.places.busy_findings import installer_findings, mapping_findings
from envsync.agent.places.layout import environment_layout
from envsync.tree.local import LocalPaths
from tests.support.pushes import NAME

MAPPING = """
import mmap, os, sys
top = sys.argv[1]
kept = []
def map_file(name, **options):
    with open(os.path.join(top, name), "w+b") as file:
        file.write(b"content")
        file.flush()
        kept.append(mmap.mmap(file.fileno(), 0, **options))
map_file("shared name")
map_file("private", flags=mmap.MAP_PRIVATE)
map_file("read", prot=mmap.PROT_READ)
map_file("local")
map_file("gone")
os.unlink(os.path.join(top, "gone"))
print("mapped", flush=True)
sys.stdin.read()
"""


def test_files_that_are_mapped_for_shared_writing(tmp_path: Path) -> None:
    top = tmp_path / "envs/myenv"
    top.mkdir(parents=True)
    argv, pipe = [sys.executable, "-c", MAPPING, str(top)], subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"mapped\n"
        [finding] = mapping_findings(bytes(top), LocalPaths(["local"]))
        assert finding.message == f"process {process.pid} has shared name mapped for writing"
        assert finding.blocking
        assert mapping_findings(bytes(top.with_name("myenv2")), LocalPaths()) == ()
        process.communicate(b"", timeout=20)
    assert mapping_findings(bytes(top), LocalPaths()) == ()


@pytest.mark.parametrize(("suffix", "is_at_work"), [("", True), ("2", False)])
def test_conda_that_takes_the_name_from_a_file(
    suffix: str, is_at_work: bool, tmp_path: Path
) -> None:
    """From the file in its own working directory, once it runs."""
    (tmp_path / "environment.yml").write_text(f"name: {NAME}{suffix}\ndependencies: []\n")
    conda = tmp_path / "conda"
    conda.write_text("print('begun', flush=True); input()")
    argv, pipe = [sys.executable, str(conda), "env", "update"], subprocess.PIPE
    with subprocess.Popen(argv, cwd=tmp_path, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        found = installer_findings(environment_layout(str(tmp_path), NAME))
        expected = f"conda (process {process.pid}) is changing it"
        assert (expected in [finding.message for finding in found]) == is_at_work
        process.communicate(b"\n", timeout=20)
