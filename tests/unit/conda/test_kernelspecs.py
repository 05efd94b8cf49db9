"""Which kernelspecs outside an environment are its."""

from __future__ import annotations

import pytest

from envsync.conda import kernelspecs

ENVIRONMENT = b"/opt/conda/envs/my"


@pytest.mark.parametrize(
    ("content", "is_its"),
    [
        (b'{"argv": ["/opt/conda/envs/my/bin/python", "-m", "x"]}', True),
        (b'{"argv": ["/opt/conda/envs/../envs/my/bin/python"]}', True),
        (b'{"argv": ["/opt/conda/envs/my-other/bin/python"]}', False),
        (b'{"argv": ["/opt/conda/envs/my/envs/other/bin/python"]}', False),
        (b'{"argv": ["python", "/opt/conda/envs/my/x"]}', False),
        (b'{"argv": [7]}', False),
        (b'{"argv": []}', False),
        (b'{"argv": ["\\ud800"]}', False),
        (b"[]", False),
        (b"{", False),
    ],
)
def test_whose_program_is_started(content: bytes, is_its: bool) -> None:
    assert kernelspecs.starts(content, [ENVIRONMENT]) is is_its


@pytest.mark.parametrize(
    ("environ", "users"),
    [
        ({}, "/home/u/.local/share/jupyter/kernels"),
        ({"XDG_DATA_HOME": "/d"}, "/d/jupyter/kernels"),
        ({"XDG_DATA_HOME": "/d", "JUPYTER_DATA_DIR": "/j"}, "/j/kernels"),
    ],
)
def test_directories_of_kernelspecs_are_jupyters(environ: dict[str, str], users: str) -> None:
    found = kernelspecs.directories(environ, "/home/u", "/opt/conda")
    assert found == [users, "/opt/conda/share/jupyter/kernels"]
