"""What is streamed to servers is importable by every Python from 3.8 on, with nothing installed."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.pythons import NEWEST, OLDEST, interpreters
from tests.streamed import SOURCES, libraries, module_name, streamed_files
from tests.support.prerequisites import is_required

PROGRAM = """
import importlib, importlib.util, json, sys
sources, modules, libraries = json.load(sys.stdin)
sys.path.insert(0, sources)
for name in modules:
    importlib.import_module(name)
missing = [name for name in libraries if importlib.util.find_spec(name) is None]
if missing:
    sys.exit("not in this Python: %s" % ", ".join(missing))
"""


@pytest.mark.parametrize("version", interpreters())
def test_agent_modules_import_on_python(version: str) -> None:
    """All modules import, with warnings as errors and without site-packages."""
    request = json.dumps([str(SOURCES), [module_name(p) for p in streamed_files()], libraries()])
    answer = subprocess.run(
        [interpreters()[version], "-I", "-S", "-B", "-W", "error", "-c", PROGRAM],
        input=request,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, f"Python {version}:\n{answer.stderr}"


def test_oldest_and_newest_python_are_here() -> None:
    """In CI (ENVSYNC_REQUIRE=pythons) the range of versions has to be covered."""
    found = {tuple(int(part) for part in version.split(".")[:2]) for version in interpreters()}
    assert found, "no Python at all"
    if is_required("pythons"):
        assert {OLDEST, NEWEST} <= found, f"found only {', '.join(interpreters())}"
