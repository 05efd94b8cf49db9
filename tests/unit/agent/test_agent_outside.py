"""Where an environment's binaries look for libraries, as far as that is outside of it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from envsync.agent.source.outside_paths import outside_paths
from envsync.agent.source.source_environment import SourceEnvironment
from envsync.conda import elf as reading
from tests.support import disk
from tests.support.elf_file import RUNPATH, elf
from tests.support.pushes import NAME, environment
from tests.support.trees import file

THERE = "/srv/conda/envs/other-name"


class Sources:
    """Of one environment with binaries; each is a further push from it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.top = root / "conda/envs" / NAME
        self.top.mkdir(parents=True)
        disk.build(os.fsencode(self.top), environment({b"lib/text.so": file(b"x" * 100)}))

    def add(self, path: str, *run_paths: str | Path) -> None:
        place = self.top / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(elf({RUNPATH: ":".join(map(str, run_paths)).encode()}))

    def lines(self, there: str = "") -> list[str]:
        caches = str(self.root / "cache")
        source = SourceEnvironment(str(self.root / "conda"), NAME, (), caches, None)
        source.inspect()
        return [outside.message for outside in outside_paths(source.version, there)]


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    return Sources(tmp_path)


def test_each_directory_is_told_once(sources: Sources) -> None:
    sources.add("lib/one.so", "$ORIGIN", "$ORIGIN/../../other/lib")
    sources.add("lib/deep/er/two.so.1", "$ORIGIN/../../..", "$ORIGIN/../../../../other/lib")
    sources.add("lib/silent.so", "$ORIGIN/deep", sources.top / "lib", sources.root / "conda/lib")
    envs = sources.top.parent
    assert sources.lines() == [
        f"lib/deep/er/two.so.1 (RPATH, also of 1 more) leads to {envs}/other/lib"
    ]
    assert sources.lines(THERE) == [
        "lib/deep/er/two.so.1 (RPATH, also of 1 more) leads to /srv/conda/envs/other/lib"
    ]


def test_an_absolute_one_is_told_where_something_is_there(sources: Sources) -> None:
    """As a rule it is left from where the file was built, as in NumPy's wheels."""
    elsewhere, sibling = sources.root / "elsewhere", sources.top.with_name("sibling")
    sources.add("lib/one.so", elsewhere, "/opt/_internal/nowhere", sibling)
    assert sources.lines() == []
    elsewhere.mkdir()
    sibling.mkdir()
    assert sources.lines() == [
        f"lib/one.so (RPATH) leads to {sibling}",
        f"lib/one.so (RPATH) leads to {elsewhere}",
    ]
    # What is below the prefix is rewritten on its way.
    assert set(sources.lines(THERE)) == {
        "lib/one.so (RPATH) leads to /srv/conda/envs/sibling",
        f"lib/one.so (RPATH) leads to {elsewhere}",
    }


def test_binary_without_room_for_the_prefix_is_reported_as_it_stays(sources: Sources) -> None:
    sibling = sources.top.with_name("sibling")
    sibling.mkdir()
    sources.add("lib/one.so", sibling)
    longer = f"/srv/{'x' * 200}/envs/{NAME}"
    assert sources.lines(longer) == [f"lib/one.so (RPATH) leads to {sibling}"]


def test_each_binary_is_read_once(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[bytes, ...]] = []
    run_paths = reading.run_paths

    def noted(ask: reading.ReadAt) -> tuple[bytes, ...]:
        read.append(run_paths(ask))
        return read[-1]

    monkeypatch.setattr(reading, "run_paths", noted)
    sources.add("lib/one.so", "$ORIGIN/../../other/lib")
    first = sources.lines()
    assert sorted(read) == [(), (b"$ORIGIN/../../other/lib",)]
    sources.add("lib/program", "$ORIGIN/../../other/lib", "/opt/_internal/nowhere")
    (sources.top / "lib/program").chmod(0o755)
    os.utime(sources.top / "lib/one.so")
    assert sources.lines() == [line.replace("RPATH", "RPATH, also of 1 more") for line in first]
    assert len(read) == 3


def test_links_lead_where_they_will_lead(sources: Sources) -> None:
    (sources.top / "data").symlink_to(sources.top.with_name("sibling"))
    assert sources.lines(THERE) == ["data (symlink) leads to /srv/conda/envs/sibling"]


def test_a_relative_one_is_told_by_the_path_that_it_has_there(sources: Sources) -> None:
    """So that it can be said whether anything is there."""
    (sources.top / "lib/data").symlink_to("../../other/data")
    envs = sources.top.parent
    assert sources.lines() == [f"lib/data (symlink) leads to {envs}/other/data"]
    assert sources.lines(THERE) == ["lib/data (symlink) leads to /srv/conda/envs/other/data"]


def test_a_link_to_a_name_that_is_rewritten_leads_inside(sources: Sources) -> None:
    """Where the environment is behind a link, its files may name it by the place itself."""
    moved = sources.root / "big" / NAME
    moved.parent.mkdir()
    sources.top.rename(moved)
    sources.top.symlink_to(moved)
    (moved / "data").symlink_to(moved / "lib")
    assert sources.lines(THERE) == []
    assert sources.lines() == [f"data (symlink) leads to {moved}/lib"], "there, nothing may be"


def test_an_editable_install_is_told_once(sources: Sources) -> None:
    """By its project, whichever files lead there; what leads to other places is told as well."""
    project, site = sources.root / "proj", sources.top / "lib/python3.11/site-packages"
    for name, content in {
        "edit_st-0.1.dist-info/direct_url.json": json.dumps(
            {"url": f"{project.as_uri()}/", "dir_info": {"editable": True}}
        ),
        "__editable__.edit_st-0.1.pth": "import __editable___edit_st_0_1_finder",
        "__editable___edit_st_0_1_finder.py": f"MAPPING = {{'edit_st': '{project}/src/edit_st'}}\n",
        "_edit_st.pth": f"{project}/src\n{project}-2/src\n",
        "old.egg-link": "/srv/old\n.",
        "easy-install.pth": "/srv/old\n",
    }.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(content)
    (site / "data").symlink_to(project / "data")
    assert sorted(sources.lines(THERE)) == [
        f"edit_st 0.1 is an editable install of {project}",
        f"lib/python3.11/site-packages/_edit_st.pth (line of a .pth file) leads to {project}-2/src",
        f"lib/python3.11/site-packages/data (symlink) leads to {project}/data",
        "old is an editable install of /srv/old",
    ]
