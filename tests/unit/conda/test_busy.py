"""When an environment counts as busy or broken, and when that only deserves a warning."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.conda.busy import RunningProcess, environment_file, installer_at_work, is_sign, signs

ENVIRONMENT = b"/workspace/alice/miniconda3/envs/myenv"
BASE = b"/workspace/alice/miniconda3"
SITE = b"lib/python3.11/site-packages/"
NOW = 1_700_000_000.0
HISTORY = (b"conda-meta/history", NOW - 86_400)


def process(command: bytes, **environ: bytes) -> RunningProcess:
    argv = command.replace(b"ENV", ENVIRONMENT).replace(b"BASE", BASE).split()
    return RunningProcess(7, tuple(argv), {name.encode(): value for name, value in environ.items()})


PIP = process(b"ENV/bin/python ENV/bin/pip install x")


@pytest.mark.parametrize(
    ("description", "command", "prefix", "expected"),
    [
        ("pip by its script", b"ENV/bin/python3.11 ENV/bin/pip install x", b"", "pip"),
        ("pip as a module", b"ENV/bin/python -I -W error -m pip install -r r.txt", b"", "pip"),
        ("pip in the activated environment", b"python -m pip install x", ENVIRONMENT, "pip"),
        ("pip of another environment, this one activated",
         b"/other/bin/python -m pip install x", ENVIRONMENT, None),
        ("pip that only looks", b"ENV/bin/python -m pip list", b"", None),
        ("conda by name", b"BASE/bin/python BASE/bin/conda install -y -n myenv x", b"", "conda"),
        ("by an attached name", b"conda install -nmyenv x", b"", "conda"),
        ("by a name after other letters", b"conda install -yn myenv x", b"", "conda"),
        ("by a name attached to others", b"mamba install -yqnmyenv x", BASE, "mamba"),
        ("for another after other letters", b"conda install -yn other x", ENVIRONMENT, None),
        ("by a long name", b"mamba update --name=myenv --all", b"", "mamba"),
        ("by path", b"micromamba create -p ENV x", b"", "micromamba"),
        ("by path, with =", b"conda env update --prefix=ENV/ -f e.yml", b"", "conda"),
        ("conda in the activated environment", b"conda install x", ENVIRONMENT, "conda"),
        ("conda for another by name", b"conda install -n other x", ENVIRONMENT, None),
        ("conda for another by path", b"conda install -p ENV-2 x", ENVIRONMENT, None),
        ("conda runs a job there", b"conda run -n myenv train.py", b"", None),
        ("uv", b"uv pip install --python ENV/bin/python x", b"", "uv"),
        ("a job of the environment", b"ENV/bin/python train.py install", b"", None),
        ("an editor on conda's file", b"vi ENV/conda-meta/history", b"", None),
        ("python alone", b"ENV/bin/python", b"", None),
        ("no arguments at all", b"", b"", None),
    ],
)  # fmt: skip
def test_installer_at_work(
    description: str, command: bytes, prefix: bytes, expected: str | None
) -> None:
    running = process(command, CONDA_PREFIX=prefix)
    assert installer_at_work(running, ENVIRONMENT) == expected, description


@pytest.mark.parametrize(
    ("command", "program", "directory", "expected"),
    [
        (b"bin/python -m pip install x", b"ENV/bin/python3.11", b"ENV", "pip"),
        (b"./python -m pip install x", b"/usr/bin/python3.11", b"ENV/bin", "pip"),
        (b"python -m pip install x", b"ENV/bin/python3.11", b"/home/alice", "pip"),
        (b"python -m pip install x", b"/usr/bin/python3.11", b"ENV", None),
        (b"../other/bin/python -m pip install x", b"", b"ENV", None),
        (b"uv pip install --python bin/python x", b"/usr/bin/uv", b"ENV", "uv"),
        (b"uv pip install --python bin/python x", b"/usr/bin/uv", b"/other", None),
        (b"conda install -p . x", b"BASE/bin/python", b"ENV", "conda"),
        (b"python -m pip --python ENV/bin/python install x", b"/usr/bin/python3", b"/", "pip"),
    ],
)
def test_relative_paths_of_a_process_are_resolved(
    command: bytes, program: bytes, directory: bytes, expected: str | None
) -> None:
    running = process(command)._replace(
        program=program.replace(b"ENV", ENVIRONMENT).replace(b"BASE", BASE),
        directory=directory.replace(b"ENV", ENVIRONMENT),
    )
    assert installer_at_work(running, ENVIRONMENT) == expected


@pytest.mark.parametrize(
    ("command", "path"),
    [
        (b"BASE/bin/python BASE/bin/conda env update -f environment.yml", b"/job/environment.yml"),
        (b"mamba env update --file=/tmp/e.yaml --prune", b"/tmp/e.yaml"),
        (b"micromamba create -yf e.yml", b"/job/e.yml"),
        (b"conda env create", b"/job/environment.yml"),
        (b"conda-env update", b"/job/environment.yml"),
        (b"conda env update -f e.yml -n other", b""),
        (b"conda env update -f e.yml -p /other", b""),
        (b"conda env list", b""),
        (b"conda install --file requirements.txt", b""),
        (b"ENV/bin/python -m pip install -f e.yml x", b""),
    ],
)
def test_a_name_that_only_a_file_tells(command: bytes, path: bytes) -> None:
    running = process(command)._replace(directory=b"/job")
    assert environment_file(running) == path
    for content, expected in (
        (b"channels: [x]\nname: myenv\n", True),
        (b"name:   'myenv' # ours\r\n", True),
        (b"name: other\ndependencies:\n- name: myenv\n", False),
        (b"dependencies: []\n", False),
        (None, True),  # it cannot be told from one that changes this environment
    ):
        known = running._replace(environment_file=content)
        is_at_work = installer_at_work(known, ENVIRONMENT) is not None
        assert is_at_work == (expected if path else b"pip" in command)


@pytest.mark.parametrize(
    ("path", "top"),
    [
        (SITE + b"~umpy", SITE + b"~umpy"),
        (SITE + b"~umpy/core/a.py", SITE + b"~umpy"),
        (b".condatmp/x", b".condatmp"),
        (b"lib/libz.so.c~", b"lib/libz.so.c~"),
    ],
)
@pytest.mark.parametrize(
    ("age_seconds", "blocking"), [(0, True), (599, True), (601, False), (-5, True), (10**8, False)]
)
def test_leftovers_of_installers_are_signs(
    path: bytes, top: bytes, age_seconds: float, blocking: bool
) -> None:
    found = signs([HISTORY, (path, NOW - age_seconds)], NOW)
    assert [(sign.path, sign.blocking) for sign in found] == [(top, blocking)]
    assert is_sign(path)


@pytest.mark.parametrize(
    "path",
    [b"share/~notes", SITE + b"numpy/~x", b"bin/a~", b"etc/condatmp", b"", b"conda-meta/x.json"],
)
def test_ordinary_files_are_no_sign(path: bytes) -> None:
    assert signs([HISTORY, (path, NOW)], NOW) == ()
    assert not is_sign(path)


def test_a_leftover_is_told_once_and_is_as_young_as_its_youngest_part() -> None:
    paths = [HISTORY, (SITE + b"~a/new", NOW), (SITE + b"~a", 0.0), (SITE + b"~a/old", 1.0)]
    (sign,) = signs(paths, NOW)
    assert sign.blocking


def test_missing_history_is_a_blocking_sign() -> None:
    (sign,) = signs([(b"bin/python", 0.0)], NOW)
    assert sign.blocking
    assert "history" in sign.message


@given(st.lists(st.tuples(st.binary(), st.floats(allow_nan=False))), st.lists(st.binary()))
def test_anything_is_taken(paths: list[tuple[bytes, float]], argv: list[bytes]) -> None:
    signs(paths, NOW)
    installer_at_work(RunningProcess(1, tuple(argv), {}), ENVIRONMENT)
