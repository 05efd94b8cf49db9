"""An archive is for the platform of its packages, whoever unpacks it."""

from __future__ import annotations

import io
import json
import struct
import tarfile
from contextlib import nullcontext
from pathlib import Path

import pytest

from envsync.agent.server.helper_processes import NO_HELPERS
from envsync.agent.server.machine import platform_facts
from envsync.conda.platform_needs import Platform
from envsync.errors import PreflightRefused
from envsync.push.ends.end import LocalEnd
from envsync.push.ends.target_end import TargetEnd, open_request
from envsync.push.packing.conda_unpack import UNPACK
from envsync.push.packing.packed_platform import PackedPlatform, packed_platform
from envsync.push.packing.packed_source import packed_source
from envsync.push.request.method import PACK
from envsync.push.request.places import Place
from envsync.push.request.settings import PushSettings
from tests.support.one_push import one_push

AARCH64 = PackedPlatform("Linux", "aarch64")


def program(order: str, machine: int) -> bytes:
    data = 1 if order == "<" else 2
    return b"\x7fELF\x02" + bytes([data]) + bytes(10) + struct.pack(order + "HH", 2, machine)


def tree(top: Path, subdirs: list[object], python: bytes = b"") -> Path:
    for directory in ("conda-meta", "bin"):
        (top / directory).mkdir(parents=True)
    for number, subdir in enumerate(subdirs):
        record = top / "conda-meta" / f"p{number}-1-0.json"
        record.write_text(json.dumps(subdir if subdir == [] else {"subdir": subdir}))
    (top / "bin/python3.11").write_bytes(python)
    (top / "bin/python").symlink_to("python3.11")
    return top


@pytest.mark.parametrize(
    ("subdirs", "python", "expected"),
    [
        (["noarch", "linux-aarch64", "linux-64", "linux-aarch64"], b"", AARCH64),
        (["linux-64"], program("<", 183), PackedPlatform("Linux", "x86_64")),
        (["osx-arm64"], b"", PackedPlatform("Darwin", "aarch64")),
        (["noarch", 7, [], "beos-64", "linux-32"], program("<", 183), AARCH64),
        ([], program("<", 62), PackedPlatform("Linux", "x86_64")),
        ([], program(">", 22), PackedPlatform("Linux", "s390x")),
        ([], program("<", 3), None),
        ([], b"#!/bin/sh\n", None),
        ([], b"\x7fELF", None),
        ([], b"\x7fELF" + bytes(40), None),
    ],
)
def test_platform_is_read_from_the_records_or_the_interpreter(
    tmp_path: Path, subdirs: list[object], python: bytes, expected: PackedPlatform | None
) -> None:
    assert packed_platform(tree(tmp_path, subdirs, python)) == expected


def test_nothing_is_read_through_a_link(tmp_path: Path) -> None:
    outside = tree(tmp_path / "outside", ["linux-aarch64"], program("<", 183))
    top = tmp_path / "top"
    top.mkdir()
    for name in ("conda-meta", "bin"):
        (top / name).symlink_to(outside / name)
    assert packed_platform(top) is None


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A prefix; and a home of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "prefix/envs").mkdir(parents=True)
    (tmp_path / "prefix/conda-meta").mkdir()
    return tmp_path / "prefix"


def archive_for(subdir: str, directory: Path) -> PushSettings:
    """The order to unpack one of a package of that platform."""
    archive = directory / "e.tar"
    with tarfile.open(archive, "w") as tar:
        for name, content in (
            ("conda-meta/history", b""),
            ("conda-meta/p-1-0.json", json.dumps({"subdir": subdir}).encode()),
            (UNPACK, b"_prefix_records = [\n\n]\n"),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return PushSettings("e", "s", "me@s", method=PACK, archive=str(archive))


@pytest.mark.parametrize("subdir", ["linux-aarch64", "linux-s390x", "noarch"])
def test_the_source_is_of_that_platform(here: Path, subdir: str) -> None:
    source = packed_source(archive_for(subdir, here.parent), Place("s", str(here)), NO_HELPERS)
    try:
        platform = source.look.state().platform
    finally:
        source.close()
    facts, machine = platform_facts(), subdir.partition("-")[2]
    is_this = machine in ("", facts.machine)
    assert platform == (facts if is_this else Platform("Linux", machine, "", ""))


def test_archive_for_another_platform_is_refused_with_a_usable_hint(here: Path) -> None:
    order = archive_for("linux-s390x", here.parent)
    source = packed_source(order, Place("s", str(here)), NO_HELPERS)
    end = LocalEnd("server2")
    target = TargetEnd(end, open_request(order, str(here)))
    try:
        with pytest.raises(PreflightRefused, match="the architecture s390x") as refused:
            one_push(order, source, target, lambda: nullcontext(target))
    finally:
        source.close()
        end.service.target.lock.release()
    assert "--method" not in refused.value.hint
    assert list((here / "envs").glob("e")) == []
