"""Which of a server's mamba, micromamba and conda a rebuild takes, and `doctor` shows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from envsync.agent.server.conda_tool import find_tool, tools
from envsync.agent.wire.messages import ToolFacts
from envsync.errors import PreflightRefused


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cat = shutil.which("cat")
    assert cat is not None
    monkeypatch.setenv("PATH", f"{tmp_path}/path")  # this machine may have one of them
    for name in ("p/conda-meta", "p/bin", "p/condabin", "path"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "path" / "cat").symlink_to(cat)  # what watches a tool needs it
    return tmp_path / "p"


def program(path: Path, version: str) -> str:
    path.write_text(f"#!/bin/sh\necho {path.name} {version}\n")
    path.chmod(0o755)
    return str(path)


def test_doctor_shows_first_what_a_rebuild_takes(prefix: Path) -> None:
    program(prefix / "condabin" / "conda", "24.1.0")
    conda = program(prefix / "bin" / "conda", "24.1.0")
    mamba = program(prefix / "condabin" / "mamba", "1.5.8")
    on_path = program(prefix.parent / "path" / "micromamba", "2.0.5")
    program(prefix.parent / "path" / "mamba", "2.1.0")
    found = list(tools(str(prefix)))
    assert found == [
        ToolFacts("mamba", mamba, "1.5.8"),
        ToolFacts("conda", conda, "24.1.0"),
        ToolFacts("micromamba", on_path, "2.0.5"),
    ]
    assert find_tool(str(prefix)) == found[0]


def test_tool_on_the_path_is_taken_where_the_prefix_has_none(prefix: Path) -> None:
    path = program(prefix.parent / "path" / "conda", "23.11.0")
    assert list(tools(str(prefix))) == [ToolFacts("conda", path, "23.11.0")]
    assert find_tool(str(prefix)) == ToolFacts("conda", path, "23.11.0")


def test_conda_s_records_tell_the_version_of_the_prefix_s_own_alone(prefix: Path) -> None:
    (prefix / "conda-meta" / "mamba-9.9.9-0.json").write_text("{}")
    (prefix / "conda-meta" / "conda-8.8.8-py_0.json").write_text("{}")
    own = program(prefix / "bin" / "conda", "24.1.0")
    other = program(prefix.parent / "path" / "mamba", "1.5.8")
    assert list(tools(str(prefix))) == [
        ToolFacts("conda", own, "8.8.8"),
        ToolFacts("mamba", other, "1.5.8"),
    ]


def test_no_tool_is_found_where_there_is_none(prefix: Path) -> None:
    assert list(tools(str(prefix))) == []
    assert find_tool(str(prefix)) == ToolFacts("", "", "")


def test_tool_that_does_not_start_is_passed_over(prefix: Path) -> None:
    """As after the prefix was moved: what its first line names is not there."""
    mamba = prefix / "condabin" / "mamba"
    program(mamba, "1.5.8")
    mamba.write_text("#!/no/such/python\n")
    conda = program(prefix / "condabin" / "conda", "24.1.0")
    assert find_tool(str(prefix)) == ToolFacts("conda", conda, "24.1.0")


def test_tools_that_do_not_start_are_named_with_their_errors(prefix: Path) -> None:
    mamba, conda = prefix / "bin" / "mamba", prefix.parent / "path" / "conda"
    for path, text in ((mamba, "#!/no/such/python\n"), (conda, "#!/bin/sh\nexit 3\n")):
        path.write_text(text)
        path.chmod(0o755)
    with pytest.raises(PreflightRefused, match=f"started: {mamba}, {conda}") as refused:
        find_tool(str(prefix))
    first, second = refused.value.details
    assert first.startswith(f"{mamba} --version: ")
    assert "not found" in first
    assert second == f"{conda} --version: exit status 3"
    assert "--method mirror" in refused.value.hint
