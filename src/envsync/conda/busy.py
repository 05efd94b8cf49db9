"""Signs that an environment is being changed, or that an installer died in it."""

from __future__ import annotations

import posixpath
import re
from typing import Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from envsync.conda.site_packages import SITE_PACKAGES

YOUNG_SECONDS = 600.0
"""A leftover younger than this can belong to an installer that we cannot see."""

HISTORY = b"conda-meta/history"

_LEFTOVER = re.compile(
    rb"(" + SITE_PACKAGES + rb"/~[^/]*|(?:.*/)?\.condatmp|.*\.c~)(?:/.*)?",
    re.DOTALL,
)
_INSTALLER = re.compile(rb"(conda|mamba|micromamba|conda-env|pip[0-9.]*|uv)(?:\.exe)?")
_PYTHON = re.compile(rb"(?:python|pypy)[0-9.]*t?")
_CHANGING = frozenset(b"add create install remove rename sync uninstall update upgrade".split())
# An option of one letter, perhaps after others that take no value: `-n`, `-nmyenv`, `-yqnmyenv`.
_SHORT_OPTION = re.compile(rb"-[CIOSUdhkqvy]*([fnpt])=?(.*)", re.DOTALL)
_NAME_OPTIONS = (b"-n", b"--name")
_PATH_OPTIONS = (b"-p", b"--prefix", b"--python", b"--target", b"-t")
_FILE_OPTIONS = (b"-f", b"--file")
_NAME_IN_FILE = re.compile(rb"^name:[ \t]*[\"']?([^\s\"'#]+)", re.MULTILINE)
_ENVIRONMENT_VARIABLES = (b"CONDA_PREFIX", b"VIRTUAL_ENV", b"UV_PROJECT_ENVIRONMENT")


class RunningProcess(NamedTuple):
    """A running process; fields that the kernel did not let us read are empty.

    `program` is its executable file, `directory` its working directory. `environment_file` is the
    start of the file at `environment_file(process)`; None if that cannot be read.
    """

    pid: int
    argv: Tuple[bytes, ...]
    environ: Mapping[bytes, bytes]
    program: bytes = b""
    directory: bytes = b""
    environment_file: Optional[bytes] = None


class BusySign(NamedTuple):
    """A sign that an environment is busy; `blocking` if it forbids a push instead of warning."""

    message: str
    blocking: bool
    path: bytes


def signs(paths: Iterable[Tuple[bytes, float]], now_seconds: float) -> Tuple[BusySign, ...]:
    """Return every sign in an environment; empty if there is none.

    `paths` are all its relative paths (or those for which `is_sign` is true), each with the
    newer of its mtime and ctime in seconds: a renamed directory keeps its mtime, so that by mtime
    pip's `~numpy` looks as old as numpy was.
    """
    result = []
    leftovers, has_history = _leftovers(paths)
    for path, changed_seconds in leftovers:
        young = abs(now_seconds - changed_seconds) < YOUNG_SECONDS
        message = f"an installer left {path.decode('utf-8', 'backslashreplace')}"
        result.append(BusySign(message, young, path))
    if not has_history:
        result.append(BusySign("it has no conda-meta/history", True, HISTORY))
    return tuple(result)


def _leftovers(paths: Iterable[Tuple[bytes, float]]) -> Tuple[List[Tuple[bytes, float]], bool]:
    """Return what installers left, with the newest change in each, and whether a history exists."""
    has_history = False
    changes = []
    for path, changed_seconds in paths:
        has_history = has_history or path == HISTORY
        match = _LEFTOVER.fullmatch(path) if is_sign(path) else None
        if match:
            changes.append((match.group(1), changed_seconds))
    youngest = dict(sorted(changes))
    return sorted(youngest.items()), has_history


def is_sign(path: bytes) -> bool:
    """Return whether `signs` needs this relative path."""
    # Called for every path of an environment, so the cheap tests come first.
    if b"~" in path or b".condatmp" in path:
        return _LEFTOVER.fullmatch(path) is not None
    return path == HISTORY


def installer_at_work(process: RunningProcess, environment: bytes) -> Optional[str]:
    """Return the installer's name if the process changes this environment, else None.

    If only `-n NAME` is known, an environment of that name under another prefix counts too:
    waiting for an unrelated installer is better than publishing half an installation. For the same
    reason, an installer counts if it takes the name from a file that cannot be read.
    """
    name, arguments = _installer(process)
    return name if name and _concerns(name, process, arguments, environment) else None


def environment_file(process: RunningProcess) -> bytes:
    """Return the path of the file from which an installer takes the name; b"" if there is none.

    As for `conda env update -f environment.yml`.
    """
    name, arguments = _installer(process)
    if not name or name.startswith(("pip", "uv")):
        return b""
    if _values(arguments, _NAME_OPTIONS) or _values(arguments, _PATH_OPTIONS):
        return b""
    by_default = [b"environment.yml"] if name == "conda-env" or arguments[0] == b"env" else []
    for path in _values(arguments, _FILE_OPTIONS) or by_default:
        if path.endswith((b".yml", b".yaml")):
            return posixpath.join(process.directory, path)
    return b""


def _installer(process: RunningProcess) -> Tuple[str, Sequence[bytes]]:
    """Return an installer's name and its arguments; no name if the process installs nothing."""
    program, arguments = _program(process.argv)
    match = _INSTALLER.fullmatch(program)
    if match is None or not _CHANGING.intersection(arguments):
        return "", ()
    return match.group(1).decode("ascii"), arguments


def _program(argv: Sequence[bytes]) -> Tuple[bytes, Sequence[bytes]]:
    """Return the program's name and its arguments; for `python -m X` and `python X`, those of X."""
    if not argv:
        return b"", ()
    name, rest = posixpath.basename(argv[0]), list(argv[1:])
    if not _PYTHON.fullmatch(name):
        return name, rest
    while rest:
        argument = rest.pop(0)
        if argument == b"-m" and rest:
            return rest[0], rest[1:]
        if argument in (b"-W", b"-X") and rest:
            rest.pop(0)
        elif not argument.startswith(b"-"):
            return posixpath.basename(argument), rest
    return name, ()


def _concerns(
    name: str, process: RunningProcess, arguments: Sequence[bytes], environment: bytes
) -> bool:
    names = _values(arguments, _NAME_OPTIONS)
    paths = _values(arguments, _PATH_OPTIONS)
    if names or paths:
        absolute = [posixpath.join(process.directory, path) for path in paths]
        return posixpath.basename(environment) in names or any(
            _is_within(path, environment) for path in absolute
        )
    if environment_file(process):
        if process.environment_file is None:
            return True
        named = _NAME_IN_FILE.search(process.environment_file)
        if named and named.group(1) == posixpath.basename(environment):
            return True
    interpreter = _interpreter(process)
    if any(_is_within(argument, environment) for argument in (interpreter, *process.argv)):
        return True
    if name.startswith("pip") and interpreter.startswith(b"/"):
        return False  # pip changes the environment of its own interpreter
    return any(
        _is_within(process.environ.get(variable, b""), environment)
        for variable in _ENVIRONMENT_VARIABLES
    )


def _interpreter(process: RunningProcess) -> bytes:
    """Return the path of the running program.

    `argv[0]` if it has a directory, because `program` has its symlinks resolved and these can
    lead out of the environment; for a bare name, `program`.
    """
    name = process.argv[0]
    return posixpath.join(process.directory, name) if b"/" in name else process.program or name


def _values(arguments: Sequence[bytes], options: Sequence[bytes]) -> List[bytes]:
    """Return the values of options: `-n NAME`, `-nNAME`, `--name NAME` and `--name=NAME`."""
    values = []
    for argument, following in zip(arguments, [*arguments[1:], b""]):
        option, _, value = argument.partition(b"=")
        short = _SHORT_OPTION.fullmatch(argument)
        if short:
            option, value = b"-" + short.group(1), short.group(2)
        if option in options and (value or following):
            values.append(value or following)
    return values


def _is_within(path: bytes, environment: bytes) -> bool:
    path = posixpath.normpath(path)
    return path == environment or path.startswith(environment + b"/")
