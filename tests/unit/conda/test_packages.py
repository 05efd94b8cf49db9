"""Packages told from file names, and what changed between two sets of them."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.conda.packages import (
    CONDA,
    PYPI,
    Package,
    difference,
    find_installed,
    from_conda_meta_name,
    from_dist_info_name,
    list_packages,
)

SITE = b"lib/python3.11/site-packages/"


def conda(name: str, version: str, build: str = "0") -> Package:
    return Package(name, version, build, CONDA)


def pypi(name: str, version: str) -> Package:
    return Package(name, version, "", PYPI)


packages = st.builds(
    Package,
    name=st.sampled_from(["numpy", "ruamel.yaml", "ruamel_yaml", "Foo", "foo", "_libgcc_mutex"]),
    version=st.sampled_from(["1", "1.0", "2.0", ""]),
    build=st.sampled_from(["", "py_0"]),
    kind=st.sampled_from([CONDA, PYPI]),
)


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("numpy-1.26.4-py311h64a7726_0.json", conda("numpy", "1.26.4", "py311h64a7726_0")),
        ("ca-certificates-2024.2.2-hbcca054_0.json",
         conda("ca-certificates", "2024.2.2", "hbcca054_0")),
        ("_libgcc_mutex-0.1-conda_forge.json", conda("_libgcc_mutex", "0.1", "conda_forge")),
        ("numpy-1.26.4.json", None),
        ("--.json", None),
        (".json", None),
        ("state", None),
        ("numpy-1.26.4-0.json.c~", None),
    ],
)  # fmt: skip
def test_from_conda_meta_name(filename: str, expected: Package | None) -> None:
    assert from_conda_meta_name(filename) == expected


@pytest.mark.parametrize(
    ("dirname", "expected"),
    [
        ("foo_bar-1.2.dist-info", pypi("foo_bar", "1.2")),
        ("foo-bar-1.2.dist-info", pypi("foo-bar", "1.2")),
        ("torch-2.13.0+cpu.dist-info", pypi("torch", "2.13.0+cpu")),
        ("zope.interface-6.1-py3.11.egg-info", pypi("zope.interface", "6.1")),
        ("old-1.0-py3.11-linux-x86_64.egg-info", pypi("old", "1.0")),
        ("developed.egg-info", pypi("developed", "")),
        ("~umpy-1.0.dist-info", None),
        (".dist-info", None),
        ("numpy", None),
        ("", None),
    ],
)
def test_from_dist_info_name(dirname: str, expected: Package | None) -> None:
    assert from_dist_info_name(dirname) == expected


@pytest.mark.parametrize(
    ("description", "paths", "expected"),
    [
        ("nothing", [], []),
        ("one by conda, once",
         [b"conda-meta/foo-1.0-0.json", SITE + b"foo-1.0.dist-info/RECORD"],
         [conda("foo", "1.0")]),
        ("conda and pip write names and versions differently",
         [b"conda-meta/ruamel.yaml-1.0-0.json", SITE + b"ruamel_yaml-1.0.0.dist-info"],
         [conda("ruamel.yaml", "1.0")]),
        ("pip put another version over conda's",
         [b"conda-meta/numpy-1.26.4-0.json", SITE + b"numpy-2.0.1.dist-info/METADATA"],
         [pypi("numpy", "2.0.1")]),
        ("sorted without regard to case",
         [SITE + b"Zed-1.dist-info", SITE + b"abc-1.dist-info", b"conda-meta/M-1-0.json"],
         [pypi("abc", "1"), conda("M", "1"), pypi("Zed", "1")]),
        ("what pip carries inside itself is not installed",
         [SITE + b"setuptools/_vendor/wheel-0.1.dist-info/RECORD"], []),
        ("neither is a package of another tree",
         [b"share/lib/python3.11/site-packages/a-1.dist-info", b"pkgs/conda-meta/a-1-0.json"], []),
        ("left by a broken pip", [SITE + b"~oo-1.0.dist-info/RECORD"], []),
        ("free-threaded, and PyPy",
         [b"lib/python3.13t/site-packages/a-1.dist-info",
          b"lib/pypy3.9/site-packages/b-1.dist-info"],
         [pypi("a", "1"), pypi("b", "1")]),
        ("a name that is not UTF-8", [b"conda-meta/\xff-1-0.json"], [conda("\\xff", "1")]),
    ],
)  # fmt: skip
def test_packages_are_told_from_file_names(
    description: str, paths: list[bytes], expected: list[Package]
) -> None:
    assert list_packages(paths) == tuple(expected), description
    assert list_packages(reversed(paths)) == tuple(expected), description


def test_find_installed_names_the_metadata() -> None:
    found = find_installed([SITE + b"a-1.dist-info/RECORD", SITE + b"a-1.dist-info/METADATA"])
    assert [(one.package, one.metadata_path) for one in found] == [
        (pypi("a", "1"), SITE + b"a-1.dist-info")
    ]


@pytest.mark.parametrize(
    ("description", "before", "after", "lines"),
    [
        ("the same", [conda("a", "1")], [conda("a", "1")], []),
        ("all four kinds",
         [conda("a", "1"), conda("b", "1"), conda("c", "1", "x")],
         [conda("a", "2"), conda("c", "1", "y"), pypi("d", "1")],
         ["~ a 1 0 -> 2 0", "- b 1 0", "~ c 1 x -> 1 y", "+ d 1"]),
        ("from conda to pip", [conda("a", "1")], [pypi("a", "2")], ["~ a 1 0 -> a 2 (pypi)"]),
        ("two names that differ by punctuation only stay apart",
         [conda("r_y", "1"), conda("r.y", "1")], [conda("r_y", "2"), conda("r.y", "1")],
         ["~ r_y 1 0 -> 2 0"]),
    ],
)  # fmt: skip
def test_difference_of_packages_is_worded(
    description: str, before: list[Package], after: list[Package], lines: list[str]
) -> None:
    assert list(difference(before, after)) == lines, description


@given(st.sets(packages))
def test_no_difference_from_itself(some: set[Package]) -> None:
    assert difference(some, some) == ()


@given(before=st.sets(packages), after=st.sets(packages))
def test_difference_has_each_package_that_came_or_went_once(
    before: set[Package], after: set[Package]
) -> None:
    lines = difference(before, after)
    marks = Counter(line[0] for line in lines)
    assert marks["+"] + marks["~"] == len(after - before)
    assert marks["-"] + marks["~"] == len(before - after)
    assert difference(sorted(before, reverse=True), after) == lines


@given(st.lists(st.binary() | st.sampled_from([b"conda-meta/", SITE]).flatmap(
    lambda start: st.binary().map(lambda rest: start + rest))))  # fmt: skip
def test_any_paths_are_taken(paths: list[bytes]) -> None:
    for package in list_packages(paths):
        assert package.name
