"""The copy of a user's environment that the demo works on."""

from __future__ import annotations

import os
from pathlib import Path

from envsync.cli.demo import environment as demo_environment


def test_copy_names_itself_where_the_environment_named_itself(tmp_path: Path) -> None:
    environment, copy = tmp_path / "miniconda3/envs/lab", tmp_path / "demo/miniconda3/envs/lab"
    for path, content in (
        ("bin/tool", f"#!{environment}/bin/python\nimport tool\n".encode()),
        ("lib/lab.pth", f"{environment}/src\n{environment}-2/src\n".encode()),
        ("lib/no-room.so", b"\0" + os.fsencode(environment) + b"\0"),
    ):
        (environment / path).parent.mkdir(parents=True, exist_ok=True)
        (environment / path).write_bytes(content)
    (environment / "lib/link").symlink_to(environment / "bin/tool")
    (environment / "lib/outside").symlink_to("/usr/bin/env")
    before = {path: path.lstat().st_mtime_ns for path in environment.rglob("*")}
    copy.parent.mkdir(parents=True)
    demo_environment.copy(environment, copy)
    assert (copy / "bin/tool").read_text() == f"#!{copy}/bin/python\nimport tool\n"
    assert (copy / "lib/lab.pth").read_text() == f"{copy}/src\n{environment}-2/src\n"
    assert (copy / "lib/no-room.so").read_bytes() == (environment / "lib/no-room.so").read_bytes()
    assert (copy / "lib/link").readlink() == copy / "bin/tool"
    assert str((copy / "lib/outside").readlink()) == "/usr/bin/env"
    assert {path: path.lstat().st_mtime_ns for path in environment.rglob("*")} == before
