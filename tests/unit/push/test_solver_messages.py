"""What tools say when they fail, as they really said it, and what is read from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from envsync.push.rebuilding.solver_messages import (
    CHANNEL,
    CONFLICT,
    NETWORK,
    OTHER,
    SPACE,
    UNAVAILABLE,
    lines,
    read_conda,
    read_pip,
)

TRANSCRIPTS = Path(__file__).parent / "transcripts"


def transcript(name: str) -> str:
    return (TRANSCRIPTS / f"{name}.txt").read_text()


def test_a_reason_is_that_of_the_package_named() -> None:
    """One package's name can be the beginning of another's."""
    said = {
        "mkl": "package mkl-2024.0-h1_0 requires tbb, but none can be installed",
        "numpy-base": "nothing provides requested numpy-base 1.26",
        "numpy": "nothing provides requested numpy 1.26.4",
    }
    text = "\n".join([*said.values(), "nothing provides requested mkl 2024"])
    assert read_conda(text).reasons == said


@pytest.mark.parametrize(
    ("name", "kind", "names"),
    [
        ("build-gone.classic", UNAVAILABLE, ("lab-variant", "lab-text")),
        ("build-gone.rattler", UNAVAILABLE, ("lab-variant",)),
        ("json-build-gone.classic", UNAVAILABLE, ("lab-text", "lab-variant")),
        ("json-build-gone.rattler", UNAVAILABLE, ("lab-variant",)),
        ("version-gone.rattler", UNAVAILABLE, ("lab-variant",)),
        ("name-gone.classic", UNAVAILABLE, ("lab-nothere",)),
        ("conflict.rattler", CONFLICT, ("lab-variant",)),
        ("conflict.classic", UNAVAILABLE, ("lab-variant",)),
        ("channel-gone.rattler", CHANNEL, ()),
    ],
)
def test_conda_26_with_both_solvers(name: str, kind: str, names: tuple[str, ...]) -> None:
    failure = read_conda(transcript(name))
    assert (failure.kind, failure.names) == (kind, names)
    assert failure.summary


def test_messages_of_conda_in_json_are_read_as_lines() -> None:
    assert lines(transcript("json-build-gone.rattler"))[:3] == [
        "The following packages are not available from current channels:",
        "  - lab-variant==1.0=mkl_9",
        "Current channels:",
    ]
    assert lines('{"success": false, "solver_problems": ["no a", "no b"]}') == ["no a", "no b"]
    assert lines("one\n\n two \none\n{}\n") == ["one", " two", "{}"]


MAMBA_0 = """\
Encountered problems while solving:
  - nothing provides requested numpy 1.19.2 py38h54aff64_0
  - nothing provides requested libgcc-ng 9.1.0 hdf63c60_0
"""
MAMBA_1 = """\
Could not solve for environment specs
The following packages are incompatible
├─ _openmp_mutex ==5.1 1_gnu does not exist (perhaps a typo or a missing channel);
├─ argon2-cffi ==21.1.0 py39h3811e60_2 does not exist (perhaps a typo or a missing channel);
└─ pytorch-cuda 11.8**  is not installable because it requires
   └─ cuda 11.8.* , which does not exist (perhaps a missing channel).
"""
MICROMAMBA_2 = """\
error    libmamba Could not solve for environment specs
    The following package could not be installed
    └─ numexpr =* * does not exist (perhaps a typo or a missing channel).
critical libmamba Could not solve for environment specs
"""
MAMBA_CONFLICT = """\
error    libmamba Could not solve for environment specs
    The following packages are incompatible
    ├─ numpy * py311* is installable and it requires
    │  └─ python >=3.11,<3.12.0a0 , which can be installed;
    └─ scipy 1.11.0 is not installable because it requires
       └─ python 3.10** , which conflicts with any installable versions previously reported.
"""
RATTLER_PINNED = """\
RattlerUnsatisfiableError: Cannot solve the request because of: lab-pin 1.0.* cannot be installed \
because there are no viable options:
└─ lab-pin 1.0 would require
   └─ lab-other >=1.5, for which no candidates were found.
"""
NEEDED_BY = """\
Encountered problems while solving:
  - nothing provides icu 54.* needed by r-base-3.3.1-1
  - package libarrow-12.0.0-h07599e3_0_cuda requires libevent >=2.1.12,<2.1.13.0a0, but none of \
the providers can be installed
"""
OLD_CONDA = """\
Solving environment: failed

ResolvePackageNotFound:
  - libffi==3.2.1=hd88cf55_4
  - zlib==1.2.11=h7b6447c_3
"""
MAMBA_JSON = '{"solver_problems": ["nothing provides requested xyz 1.0"], "success": false}'


@pytest.mark.parametrize(
    ("said", "kind", "names"),
    [
        (MAMBA_0, UNAVAILABLE, ("numpy", "libgcc-ng")),
        (MAMBA_1, UNAVAILABLE, ("_openmp_mutex", "argon2-cffi")),
        (MICROMAMBA_2, UNAVAILABLE, ("numexpr",)),
        (MAMBA_CONFLICT, CONFLICT, ("numpy", "python", "scipy")),
        (RATTLER_PINNED, CONFLICT, ("lab-pin", "lab-other")),
        (NEEDED_BY, CONFLICT, ("r-base", "libarrow")),
        (OLD_CONDA, UNAVAILABLE, ("libffi", "zlib")),
        (MAMBA_JSON, UNAVAILABLE, ("xyz",)),
        ("CondaHTTPError: HTTP 000 CONNECTION FAILED for url <https://x/y>", NETWORK, ()),
        ("critical libmamba Download error (6) Could not resolve host [...]", NETWORK, ()),
        ("OSError: [Errno 28] No space left on device", SPACE, ()),
        ("Segmentation fault", OTHER, ()),
        ("", OTHER, ()),
    ],
)
def test_shapes_of_other_tools(said: str, kind: str, names: tuple[str, ...]) -> None:
    failure = read_conda(said)
    assert (failure.kind, failure.names) == (kind, names)


NO_WHEEL = """\
ERROR: torch-2.1.0-cp311-cp311-linux_x86_64.whl is not a supported wheel on this platform.
"""
NO_NETWORK = """\
WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<pip._vendor\
.urllib3.connection.HTTPSConnection object>: Failed to establish a new connection: [Errno 101] \
Network is unreachable')': /simple/idna/
ERROR: Could not find a version that satisfies the requirement idna==3.4 (from versions: none)
ERROR: No matching distribution found for idna==3.4
"""
NO_PROJECT = "ERROR: file:///srv/project is not a valid editable requirement. It should ...\n"
FROM_A_LIST = """\
ERROR: file:///srv/tool (from -r /p/side-wanted.txt (line 1)) does not appear to be a Python \
project: neither 'setup.py' nor 'pyproject.toml' found.
"""
NAMED = """\
ERROR: mylab@ file:///srv/mylab from file:///srv/mylab (from -r /p/side-wanted.txt (line 2)) does \
not appear to be a Python project: neither 'setup.py' nor 'pyproject.toml' found.
"""
NO_CLONE = """\
  x git clone --filter=blob:none --quiet 'ssh://****@h/x.git' /tmp/pip-install-x/lib did not run \
successfully.
"""
NO_FILE = (
    "ERROR: Could not install packages due to an OSError: [Errno 2] No such file or directory: "
    "'/srv/wheels/x-1.0-py3-none-any.whl'\n"
)
NO_COMPILER = "  error: command 'gcc' failed\n  ERROR: Failed building wheel for pysam\n"


@pytest.mark.parametrize(
    ("said", "kind", "names", "addresses"),
    [
        (transcript("pip-gone"), UNAVAILABLE, ("cowsay",), ()),
        (transcript("pip-conflict"), UNAVAILABLE, ("idna",), ()),
        (NO_WHEEL, UNAVAILABLE, ("torch",), ()),
        (NO_NETWORK, NETWORK, (), ()),
        (NO_PROJECT, UNAVAILABLE, (), ("file:///srv/project",)),
        (FROM_A_LIST, UNAVAILABLE, (), ("file:///srv/tool",)),
        (NAMED, UNAVAILABLE, (), ("file:///srv/mylab",)),
        (NO_CLONE, UNAVAILABLE, (), ("ssh://****@h/x.git",)),
        (NO_FILE, UNAVAILABLE, (), ("/srv/wheels/x-1.0-py3-none-any.whl",)),
        (NO_COMPILER, UNAVAILABLE, ("pysam",), ()),
        ("No module named pip", OTHER, (), ()),
    ],
)
def test_message_of_pip_is_read(
    said: str, kind: str, names: tuple[str, ...], addresses: tuple[str, ...]
) -> None:
    failure = read_pip(said)
    assert (failure.kind, failure.names, failure.addresses) == (kind, names, addresses)


def test_a_package_of_a_channel_that_is_an_address() -> None:
    failure = read_conda('{"packages": ["https://h/chan::lab-text=1"]}')
    assert failure.names == ("lab-text",)


def test_packages_that_are_no_texts_are_shown_as_they_are() -> None:
    failure = read_conda('{"packages": [{"name": "lab-text"}, "lab-variant=1"]}')
    assert failure.kind == UNAVAILABLE
    assert failure.names == ("lab-variant",)
    assert failure.summary == "{'name': 'lab-text'}, lab-variant=1"
