"""What a build beside the name becomes under it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

import pytest

from envsync.agent.places.layout import environment_layout
from envsync.agent.staging.side_build import SideBuild
from envsync.agent.staging.side_place import built_at, discard, unfinished

RECORD = "lib/python3.11/site-packages/x-1.dist-info/RECORD"


def pip_line(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"../../../bin/x,sha256={digest},{len(content)}\n"


def conda_record(script: bytes, pip: bytes) -> bytes:
    """conda's of both files; the digest of what was in the package stays."""
    listed = {"bin/x": script, RECORD: pip}
    paths = [
        {"_path": path, "sha256": "0" * 64, "sha256_in_prefix": hashlib.sha256(content).hexdigest()}
        for path, content in listed.items()
    ]
    return json.dumps({"paths_data": {"paths": paths}}).encode()


@pytest.fixture
def build(tmp_path: Path) -> SideBuild:
    (tmp_path / "envs").mkdir()
    layout = environment_layout(str(tmp_path), "myenv")
    layout.create()
    build = SideBuild(layout)
    build.begin()
    return build


def test_the_tool_makes_the_directory_and_the_note_names_it_before(
    build: SideBuild, tmp_path: Path
) -> None:
    """micromamba 1 and mamba 2.0 refuse a directory that is there, even an empty one."""
    layout = environment_layout(str(tmp_path), "myenv")
    assert not os.path.lexists(build.path)
    assert built_at(layout) == build.path
    assert unfinished(layout) == []
    os.mkdir(build.path)
    assert unfinished(layout) == [build.path]
    another = SideBuild(layout)
    another.begin()
    assert not os.path.lexists(build.path)
    assert built_at(layout) == another.path
    discard(layout)
    assert built_at(layout) is None


def test_a_record_that_is_none_counts_as_missing(build: SideBuild) -> None:
    assert build.packages() == ()
    records = Path(os.fsdecode(build.path), "conda-meta")
    records.mkdir(parents=True)
    assert build.packages() == ()
    for name, text in {
        "a": "junk",
        "b": "[]",
        "c": "{}",
        "d": '{"name": 3}',
        "e": "[" * 100_000,
        "f": '{"name": "lab"}',
    }.items():
        (records / f"{name}-1-0.json").write_text(text)
    (records / "g-1-0.json").write_bytes(b"\xff\xfe")
    (records / "h-1-0.json").mkdir()
    assert build.packages() == ("lab",)


def test_the_digests_of_what_is_rewritten_follow(build: SideBuild, tmp_path: Path) -> None:
    layout = environment_layout(str(tmp_path), "myenv")
    top = Path(os.fsdecode(build.path))

    def script(where: bytes) -> bytes:
        return b"#!" + where + b"/bin/python\n"

    def records(where: bytes) -> tuple[bytes, bytes]:
        pip = pip_line(script(where)).encode()
        return pip, conda_record(script(where), pip)

    for path in ("bin", "conda-meta", os.path.dirname(RECORD)):
        (top / path).mkdir(parents=True)
    (top / "bin/x").write_bytes(script(build.path))
    pip, conda = records(build.path)
    (top / RECORD).write_bytes(pip)
    (top / "conda-meta/x-1-0.json").write_bytes(conda)
    build.finish()
    assert (top / "bin/x").read_bytes() == script(layout.path)
    assert ((top / RECORD).read_bytes(), (top / "conda-meta/x-1-0.json").read_bytes()) == records(
        layout.path
    )
