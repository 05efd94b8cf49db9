"""Which processes are installers, and which environment each of them changes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsync.conda.installers import (
    RunningInstaller,
    environment_file,
    installer_at_work,
    is_installer,
    named_paths,
)

ENVIRONMENT = b"/workspace/alice/miniconda3/envs/myenv"
BASE = b"/workspace/alice/miniconda3"


def process(command: bytes, **environ: bytes) -> RunningInstaller:
    argv = command.replace(b"ENV", ENVIRONMENT).replace(b"BASE", BASE).split()
    return RunningInstaller(
        7, tuple(argv), {name.encode(): value for name, value in environ.items()}
    )


PIP = process(b"ENV/bin/python ENV/bin/pip install x")


@pytest.mark.parametrize("variable", ["PIP_TARGET", "PIP_PREFIX", "PIP_PYTHON"])
def test_pip_of_elsewhere_that_a_variable_leads_here_is_seen(variable: str) -> None:
    elsewhere = b"/other/bin/python -m pip install x"
    at = ENVIRONMENT + b"/lib/python3.11/site-packages"
    assert installer_at_work(process(elsewhere, **{variable: at}), ENVIRONMENT) == "pip"
    assert installer_at_work(process(elsewhere, **{variable: b"/elsewhere"}), ENVIRONMENT) is None


@pytest.mark.parametrize(
    ("description", "command", "prefix", "expected"),
    [
        ("pip by its script", b"ENV/bin/python3.11 ENV/bin/pip install x", b"", "pip"),
        ("pip as a module", b"ENV/bin/python -I -W error -m pip install -r r.txt", b"", "pip"),
        ("pip as a module without a blank", b"ENV/bin/python -mpip install x", b"", "pip"),
        ("pip as a module among options", b"ENV/bin/python -Im pip install x", b"", "pip"),
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
        ("conda runs a job there", b"conda run -n myenv dvc update x", b"", None),
        ("conda searches there", b"BASE/bin/conda search -n myenv install", b"", None),
        ("micromamba runs a job there", b"micromamba run -n myenv lab update", b"", None),
        ("uv runs a job there", b"uv run job.py sync", ENVIRONMENT, None),
        ("uv installs a tool elsewhere", b"uv tool install x", ENVIRONMENT, None),
        ("options before the verb", b"pip --log run.log --python ENV install x", b"", "pip"),
        ("a value before the verb", b"ENV/bin/python -m pip --log debug install x", b"", "pip"),
        ("uv with a value before", b"uv --cache-dir cache pip install x", ENVIRONMENT, "uv"),
        ("uv with a project before", b"uv --project tool sync", ENVIRONMENT, "uv"),
        ("micromamba with a file before",
         b"micromamba --rc-file config install -n myenv x", b"", "micromamba"),
        ("uv, whose -n means no cache", b"uv pip install -n x", ENVIRONMENT, "uv"),
        ("a job behind options", b"uv -q --cache-dir=x run job.py sync", ENVIRONMENT, None),
        ("a job behind a flag", b"conda --no-plugins run -n myenv dvc update", b"", None),
        ("a job of uv behind a flag", b"uv --offline run job.py sync", ENVIRONMENT, None),
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
        (b"uv pip install --target site-packages x", b"", b"ENV/lib/python3.11", "uv"),
        (b"uv pip install --prefix myenv x", b"", b"BASE/envs", "uv"),
        (b"uv pip install --python myenv x", b"", b"BASE/envs", "uv"),
        (b"uv pip install --python myenv x", b"", b"/other", None),
        (b"conda install -p . x", b"BASE/bin/python", b"ENV", "conda"),
        (b"python -m pip --python ENV/bin/python install x", b"/usr/bin/python3", b"/", "pip"),
    ],
)
def test_relative_paths_of_a_process_are_resolved(
    command: bytes, program: bytes, directory: bytes, expected: str | None
) -> None:
    running = process(command)._replace(
        program=program.replace(b"ENV", ENVIRONMENT).replace(b"BASE", BASE),
        directory=directory.replace(b"ENV", ENVIRONMENT).replace(b"BASE", BASE),
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
    ("command", "variables", "path"),
    [
        (b"/home/alice/mc/bin/python -m pip install x", {}, b"/home/alice/mc/bin/python"),
        (b"mc/bin/python -m pip install x", {}, b"/home/alice/mc/bin/python"),
        (b"conda install -p /home/alice/mc x", {}, b"/home/alice/mc"),
        (b"conda install -yp mc x", {}, b"/home/alice/mc"),
        (b"conda install --prefix=~/mc x", {}, b"/home/alice/mc"),
        (b"uv pip install --python mc/bin/python x", {}, b"/home/alice/mc/bin/python"),
        (b"conda install x", {"CONDA_PREFIX": b"/home/alice/mc"}, b"/home/alice/mc"),
        (b"uv pip install x", {"VIRTUAL_ENV": b"/home/alice/mc"}, b"/home/alice/mc"),
        (b"uv pip install -p 3.11 x", {"CONDA_PREFIX": b"/home/alice/mc"}, b"/home/alice/mc"),
    ],
)
def test_path_that_leads_to_the_environment_counts_as_the_environment(
    command: bytes, variables: dict[str, bytes], path: bytes
) -> None:
    running = process(command, HOME=b"/home/alice", **variables)._replace(directory=b"/home/alice")
    assert path in named_paths(running)
    assert installer_at_work(running, ENVIRONMENT) is None
    for real, expected in ((ENVIRONMENT, True), (ENVIRONMENT + b"2", False)):
        followed = running._replace(real_paths={path: (b"/elsewhere", real)})
        assert (installer_at_work(followed, ENVIRONMENT) is not None) == expected


def test_program_in_the_environment_counts_whatever_the_command_line_names() -> None:
    running = process(b"/home/alice/bin/python -m pip install x")
    assert installer_at_work(running, ENVIRONMENT) is None
    running = running._replace(program=ENVIRONMENT + b"/bin/python3.11")
    assert installer_at_work(running, ENVIRONMENT) == "pip"


@given(
    st.lists(st.binary()), st.dictionaries(st.sampled_from([b"HOME", b"UV_PYTHON"]), st.binary())
)
def test_any_command_line_is_taken(argv: list[bytes], environ: dict[bytes, bytes]) -> None:
    running = RunningInstaller(1, tuple(argv), environ)
    installer_at_work(running, ENVIRONMENT)
    if is_installer(argv):
        named_paths(running)
