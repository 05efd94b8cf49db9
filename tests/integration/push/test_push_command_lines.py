"""No secret of an environment is on the command line of a program that a push starts."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from envsync.push.steps.report import PUSHED
from tests.integration.push.local_pair import LocalPair
from tests.support.trees import file

TOKEN, PASSWORD = "tk-0f7e3c1d-5b1a-4d3e", "Zq7plainPassword"
CHANNEL = f"https://alice:{PASSWORD}@conda.example/t/{TOKEN}/lab"
RECORD = {
    "name": "lab", "version": "1", "build": "0", "subdir": "noarch", "files": [],
    "url": f"{CHANNEL}/noarch/lab-1-0.conda", "channel": CHANNEL,
}  # fmt: skip
SITE = b"lib/python3.11/site-packages/tool-1.0.dist-info"
NODES = {
    b"conda-meta/lab-1-0.json": file(json.dumps(RECORD).encode()),
    b".condarc": file(f"channels: [{CHANNEL}]\n".encode()),
    b"pip.conf": file(f"[global]\nindex-url = https://u:{PASSWORD}@pypi.example/simple\n".encode()),
    SITE + b"/METADATA": file(b"Name: tool\nVersion: 1.0\n"),
    SITE + b"/INSTALLER": file(b"pip\n"),
    SITE + b"/direct_url.json": file(
        json.dumps({"url": f"https://{TOKEN}:{PASSWORD}@git.example/tool.whl"}).encode()
    ),
}
TOOL = """\
#!/bin/sh
[ "$1" = create ] || { echo 2.0.5; exit; }
while [ "$1" != --prefix ]; do shift; done
mkdir -p "$2/conda-meta" "$2/bin"
touch "$2/conda-meta/history"
echo '{"name": "lab", "version": "1", "build": "0", "files": []}' > "$2/conda-meta/lab-1-0.json"
printf '#!/bin/sh\\nexit 0\\n' > "$2/bin/python"
chmod 755 "$2/bin/python"
"""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command lines of all programs that were started."""
    lines: list[str] = []
    popen, spawn = subprocess.Popen.__init__, os.posix_spawn

    def noted(process: Any, argv: Any, *more: Any, **named: Any) -> None:
        lines.append(" ".join(map(os.fsdecode, argv)))
        popen(process, argv, *more, **named)

    def spawned(path: Any, argv: Any, *more: Any, **named: Any) -> int:
        lines.append(" ".join(map(os.fsdecode, argv)))
        return spawn(path, argv, *more, **named)

    monkeypatch.setattr(subprocess.Popen, "__init__", noted)
    monkeypatch.setattr(os, "posix_spawn", spawned)
    return lines


@pytest.mark.usefixtures("own_homes")
@pytest.mark.parametrize(
    ("method", "programs"),
    [("mirror", ["sh -c exit 0"]), ("rebuild", ["mamba create", "pip install", "sh -c exit 0"])],
)
def test_no_secret_is_on_a_command_line(
    method: str, programs: list[str], tmp_path: Path, started: list[str]
) -> None:
    pair = LocalPair(tmp_path, NODES)
    tool = pair.there / "bin/mamba"
    tool.parent.mkdir()
    tool.write_text(TOOL)
    tool.chmod(0o755)
    report = pair.push(method=method, check="exit 0")
    assert report.outcome == PUSHED, report.error
    for program in programs:
        assert any(program in line for line in started), program
    assert not [line for line in started if TOKEN in line or PASSWORD in line]
