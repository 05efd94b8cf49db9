"""What an environment asks for, read from its records."""

from __future__ import annotations

import json

import pytest

from envsync.conda.requirements import (
    CondaRequirement,
    PipRequirement,
    channels_of,
    direct_url,
    requested_specs,
    requirements,
    spec_name,
    without_credentials,
)
from envsync.errors import SourceRefused

SITE = "lib/python3.11/site-packages"


def record(name: str, version: str, **more: object) -> str:
    document = {"name": name, "version": version, "build": "0", "subdir": "linux-64", **more}
    return json.dumps(document)


FILES = {
    "conda-meta/pytorch-2.1-0.json": record(
        "pytorch",
        "2.1",
        url="https://user:secret@conda.example/t/abc-123/lab/linux-64/pytorch-2.1-0.conda",
        files=["bin/x", f"{SITE}/torch-2.1.dist-info/METADATA"],
    ),
    "conda-meta/six-1.16-0.json": record(
        "six", "1.16", subdir="noarch", channel="https://conda.example/lab/noarch"
    ),
    "conda-meta/history": "# update specs: ['pytorch=2.1', 'old']\n# remove specs: ['old']\n",
    f"{SITE}/torch-2.1.dist-info/METADATA": "",
    f"{SITE}/idna-3.4.dist-info/METADATA": "",
    f"{SITE}/idna-3.4.dist-info/REQUESTED": "",
    f"{SITE}/tool-1.0.dist-info/direct_url.json": json.dumps(
        {"url": "file:///srv/tool", "dir_info": {"editable": True}}
    ),
    f"{SITE}/legacy.egg-link": "/srv/legacy\n.",
}


def test_everything_is_found_once_and_no_secret_comes_along() -> None:
    found = requirements(
        [path.encode() for path in FILES], lambda path: FILES.get(path.decode(), "").encode()
    )
    assert found.channels == ("https://conda.example/lab",)
    assert found.conda == (
        CondaRequirement("pytorch", "2.1", "0", "linux-64"),
        CondaRequirement("six", "1.16", "0", "noarch"),
    )
    assert found.pip == (
        PipRequirement("idna", "3.4", "", False, True),
        PipRequirement("legacy", "", "file:///srv/legacy", True, True),
        PipRequirement("tool", "1.0", "file:///srv/tool", True, False),
    )
    assert found.requested == ("pytorch=2.1",)
    assert "secret" not in repr(found)
    assert "abc-123" not in repr(found)


@pytest.mark.parametrize("content", [None, "", '{"na', "[]", '{"name": "x", "version": "1"}'])
def test_a_damaged_record_of_conda_is_refused(content: str | None) -> None:
    files = {**FILES, "conda-meta/x-y-1-0.json": content}
    paths = [path.encode() for path in files]
    with pytest.raises(SourceRefused, match=r"conda-meta/x-y-1-0\.json is damaged") as refused:
        requirements(paths, lambda path: (files.get(path.decode()) or "").encode())
    assert "`conda install --force-reinstall x-y`" in refused.value.hint


@pytest.mark.parametrize(
    ("url", "without"),
    [
        ("https://u:p@h/x/t/tok/y", "https://h/x/y"),
        ("https://h/t/tok/lab/linux-64", "https://h/lab/linux-64"),
        ("https://h/x?token=1#frag", "https://h/x"),
        ("git+ssh://git@h/x", "git+ssh://git@h/x"),
        ("ssh://git:pw@h:22/x", "ssh://git@h:22/x"),
        ("https://token@h/x", "https://h/x"),
        ("file:///srv/channel", "file:///srv/channel"),
        ("file:///srv/t/lab/channel", "file:///srv/t/lab/channel"),
        ("conda-forge", "conda-forge"),
        ("https://[broken/x", ""),
    ],
)
def test_credentials_stay_behind(url: str, without: str) -> None:
    assert without_credentials(url) == without


@pytest.mark.parametrize(
    ("record", "channel"),
    [
        ({"url": "https://h/conda-forge/linux-64/x-1-0.conda"}, "https://h/conda-forge"),
        ({"url": "https://h/conda-forge/noarch/x-1-0.conda"}, "https://h/conda-forge"),
        ({"channel": "https://h/conda-forge/osx-arm64"}, "https://h/conda-forge"),
        ({"channel": "https://h/conda-forge"}, "https://h/conda-forge"),
        ({"channel": "conda-forge"}, "conda-forge"),
    ],
)
def test_a_channel_is_named_without_the_platform(record: dict[str, str], channel: str) -> None:
    assert channels_of([record]) == (channel,)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"url": "https://h/x-1.0.whl", "archive_info": {}}, ("https://h/x-1.0.whl", False)),
        (
            {"url": "https://h/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            ("git+https://h/x.git@abc", False),
        ),
        (
            {"url": "ssh://git@h/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            ("git+ssh://git@h/x.git@abc", False),
        ),
        (
            {"url": "https://h/x.git", "vcs_info": {"vcs": "git"}, "subdirectory": "a/b"},
            ("git+https://h/x.git#subdirectory=a/b", False),
        ),
        (
            {"url": "https://h/x.zip#egg=x&subdirectory=a&token=1", "archive_info": {}},
            ("https://h/x.zip#subdirectory=a", False),
        ),
        ({"url": "https://h/x.zip", "subdirectory": 7}, ("https://h/x.zip", False)),
        ({"url": 7}, ("", False)),
        ([], ("", False)),
    ],
)
def test_direct_url_is_read(document: object, expected: tuple[str, bool]) -> None:
    assert direct_url(json.dumps(document).encode()) == expected
    assert direct_url(b"{") == ("", False)
    assert direct_url(None) == ("", False)


def test_the_last_word_in_the_history_counts() -> None:
    history = (
        "==> 2026-01-01 00:00:00 <==\n# cmd: conda create\n+a-1-0\n"
        "# update specs: ['python=3.10', 'conda-forge::numpy', 'a']\n"
        "# update specs: ['python=3.11']\n# remove specs: ['a']\n# update specs: [broken\n"
        "# update specs: [{[]: 1}]\n"
    )
    assert requested_specs(history) == ("conda-forge::numpy", "python=3.11")


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("conda-forge::numpy>=1.26", "numpy"),
        ("https://h/chan::Pkg=1.0", "pkg"),
        ("https://h:8080/chan/linux-64::pkg", "pkg"),
        ("file:///srv/chan::pkg", "pkg"),
        ("pkg[channel='https://h/chan']", "pkg"),
        ("https://h/chan/linux-64/lab-pkg-1.0-py_0.conda", "lab-pkg"),
        ("numpy", "numpy"),
        ("*", ""),
    ],
)
def test_spec_names_its_package(spec: str, name: str) -> None:
    assert spec_name(spec) == name


@pytest.mark.parametrize(
    ("spec", "taken"),
    [
        ("https://u:secret@h/t/secret/chan::pkg=1.0", "https://h/chan::pkg=1.0"),
        ("https://h/chan?token=secret::pkg", "https://h/chan::pkg"),
        ("pkg[channel='https://h/t/secret/chan',build=0]", "pkg[channel='https://h/chan',build=0]"),
        ("https://h/t/secret/chan/noarch/pkg-1-0.conda", "https://h/chan/noarch/pkg-1-0.conda"),
        ("conda-forge::numpy[version='>=1,<2']", "conda-forge::numpy[version='>=1,<2']"),
    ],
)
def test_a_spec_that_a_person_gave_comes_without_credentials(spec: str, taken: str) -> None:
    assert requested_specs(f"# update specs: [{spec!r}]\n") == (taken,)


def test_a_file_of_no_name_is_no_metadata() -> None:
    """JSON can spell surrogates that stand for no byte."""
    path = b"conda-meta/x-1-0.json"
    content = record("x", "1", files=["lib/\ud800.dist-info/METADATA"]).encode()
    assert requirements([path], {path: content}.get).conda[0].name == "x"
