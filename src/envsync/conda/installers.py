"""Recognizes installers among processes, and which environment each of them changes."""

from __future__ import annotations

import posixpath
import re
from typing import List, Mapping, NamedTuple, Optional, Sequence, Tuple

_INSTALLER = re.compile(rb"(conda|mamba|micromamba|conda-env|pip[0-9.]*|uv)(?:\.exe)?")
_PYTHON = re.compile(rb"(?:python|pypy)[0-9.]*t?")
_CHANGING = frozenset(b"add create install remove rename sync uninstall update upgrade".split())
# Whatever follows one of these is no verb of the installer: `conda run -n myenv dvc update`.
_HARMLESS = frozenset(
    b"""
    build cache check clean config debug doctor download exec export freeze hash index info init
    inspect list lock python repoquery run search shell show tool tree venv wheel
    """.split()
)
# An option of one letter, perhaps after others that take no value: `-n`, `-nmyenv`, `-yqnmyenv`.
_SHORT_OPTION = re.compile(rb"-[CIOSUdhkqvy]*([fnpt])=?(.*)", re.DOTALL)
# Behind one of these, a word may be no verb but a value: `uv --cache-dir cache sync`.
_BEFORE_VALUE = re.compile(
    rb"--(?!no-|disable-|offline$|quiet$|verbose$|debug$|json$|yes$)[^=]+|-[CIOSUdhkqvy]*[fnpt]"
)
_NAME_OPTIONS = (b"-n", b"--name")
_PATH_OPTIONS = (b"-p", b"--prefix", b"--python", b"--target", b"-t")
_FILE_OPTIONS = (b"-f", b"--file")
_NAME_IN_FILE = re.compile(rb"^name:[ \t]*[\"']?([^\s\"'#]+)", re.MULTILINE)
_ENVIRONMENT_VARIABLES = (
    b"CONDA_PREFIX",
    b"VIRTUAL_ENV",
    b"UV_PROJECT_ENVIRONMENT",
    b"UV_PYTHON",
    b"UV_INTERNAL__PARENT_INTERPRETER",  # by `python -m uv`
)


_PIP_VARIABLES = (b"PIP_TARGET", b"PIP_PREFIX", b"PIP_PYTHON")
"""The options by which a pip of anywhere changes another environment than its own."""

# `-m NAME`, `-mNAME`, `-ImNAME`: whatever follows is the module's.
_MODULE = re.compile(rb"-[BEIOPRSbdhiqsuvx]*m(.*)", re.DOTALL)


class RunningInstaller(NamedTuple):
    """A process whose command line `is_installer`; what the kernel did not let us read is empty.

    `program` is its executable file, `directory` its working directory. `real_paths` has what each
    of the `named_paths` leads to. `environment_file` is the start of the file at
    `environment_file(process)`; None if that cannot be read.
    """

    pid: int
    argv: Tuple[bytes, ...]
    environ: Mapping[bytes, bytes]
    program: bytes = b""
    directory: bytes = b""
    real_paths: Mapping[bytes, Sequence[bytes]] = {}
    environment_file: Optional[bytes] = None


def is_installer(argv: Sequence[bytes]) -> bool:
    """Return whether a command line is that of an installer that changes an environment."""
    return bool(_installer(argv)[0])


def installer_at_work(process: RunningInstaller, environment: bytes) -> Optional[str]:
    """Return the installer's name if the process changes this environment, else None.

    If only `-n NAME` is known, an environment of that name under another prefix counts too:
    waiting for an unrelated installer is better than publishing half an installation. For the same
    reason, an installer counts if it takes the name from a file that cannot be read.
    """
    name, arguments = _installer(process.argv)
    return name if name and _concerns(name, process, arguments, environment) else None


def environment_file(process: RunningInstaller) -> bytes:
    """Return the path of the file from which an installer takes the name; b"" if there is none.

    As for `conda env update -f environment.yml`.
    """
    name, arguments = _installer(process.argv)
    if not name or name.startswith(("pip", "uv")):
        return b""
    if _values(arguments, _NAME_OPTIONS) or _values(arguments, _PATH_OPTIONS):
        return b""
    by_default = [b"environment.yml"] if name == "conda-env" or arguments[0] == b"env" else []
    for path in _values(arguments, _FILE_OPTIONS) or by_default:
        if path.endswith((b".yml", b".yaml")):
            return posixpath.join(process.directory, path)
    return b""


def named_paths(process: RunningInstaller) -> List[bytes]:
    """Return the absolute paths by which an installer may name the environment.

    Links can be in them, which only the machine can follow where it runs (`real_paths`).
    """
    _, arguments = _installer(process.argv)
    variables = _variables(process, (*_ENVIRONMENT_VARIABLES, *_PIP_VARIABLES))
    paths = [*_targets(process, arguments), argv_program(process), *variables]
    return [path for path in paths if posixpath.isabs(path)]


def argv_program(process: RunningInstaller) -> bytes:
    """Return the path of the program by the command line; b"" if that has only its name.

    `program` can be another one, outside the environment, if links lead there.
    """
    name = process.argv[0]
    return posixpath.join(process.directory, name) if b"/" in name else b""


def _installer(argv: Sequence[bytes]) -> Tuple[str, Sequence[bytes]]:
    """Return an installer's name and its arguments; no name for any other command line."""
    program, arguments = _program(argv)
    match = _INSTALLER.fullmatch(program)
    if match is None or not _changes(arguments):
        return "", ()
    return match.group(1).decode("ascii"), arguments


def _changes(arguments: Sequence[bytes]) -> bool:
    """Return whether an installer's verb is one that changes an environment."""
    for before, word in zip([b"", *arguments], arguments):
        if word in _CHANGING:
            return True
        if word in _HARMLESS and not _BEFORE_VALUE.fullmatch(before):
            return False
    return False


def _program(argv: Sequence[bytes]) -> Tuple[bytes, Sequence[bytes]]:
    """Return the program's name and its arguments; for `python -m X` and `python X`, those of X."""
    if not argv:
        return b"", ()
    name, rest = posixpath.basename(argv[0]), list(argv[1:])
    if not _PYTHON.fullmatch(name):
        return name, rest
    while rest:
        argument = rest.pop(0)
        module = _MODULE.fullmatch(argument)
        if module and (module.group(1) or rest):
            return module.group(1) or rest.pop(0), rest
        if argument in (b"-W", b"-X") and rest:
            rest.pop(0)
        elif not argument.startswith(b"-"):
            return posixpath.basename(argument), rest
    return name, ()


def _concerns(
    name: str, process: RunningInstaller, arguments: Sequence[bytes], environment: bytes
) -> bool:
    def is_any_within(paths: Sequence[bytes]) -> bool:
        real = [real for path in paths for real in process.real_paths.get(path, ())]
        return any(_is_within(path, environment) for path in (*paths, *real))

    names = [] if name == "uv" else _values(arguments, _NAME_OPTIONS)  # uv's -n has no value
    targets = _targets(process, arguments)
    if posixpath.basename(environment) in names or is_any_within(targets):
        return True
    if names or (targets and not _is_left_open(name, arguments)):
        return False
    if environment_file(process):
        if process.environment_file is None:
            return True
        named = _NAME_IN_FILE.search(process.environment_file)
        if named and named.group(1) == posixpath.basename(environment):
            return True
    programs = [path for path in (argv_program(process), process.program) if path]
    if is_any_within([*programs, *process.argv]):
        return True
    if name.startswith("pip") and is_any_within(_variables(process, _PIP_VARIABLES)):
        return True
    if name.startswith("pip") and any(map(posixpath.isabs, programs)):
        return False  # pip changes the environment of its own interpreter
    return is_any_within(_variables(process, _ENVIRONMENT_VARIABLES))


def _is_left_open(name: str, arguments: Sequence[bytes]) -> bool:
    """Return whether options may name no directory at all, as uv's `--python 3.11` does not."""
    return name == "uv" and not any(b"/" in value for value in _values(arguments, _PATH_OPTIONS))


def _targets(process: RunningInstaller, arguments: Sequence[bytes]) -> List[bytes]:
    """Return the paths that options name, of an environment or its interpreter."""
    values = _values(arguments, _PATH_OPTIONS)
    return [posixpath.join(process.directory, _expanded(value, process)) for value in values]


def _expanded(path: bytes, process: RunningInstaller) -> bytes:
    """Return a path without a leading `~`, which conda takes too: no shell expands `--prefix=~`."""
    return process.environ.get(b"HOME", b"~") + path[1:] if path[:2] in (b"~", b"~/") else path


def _variables(process: RunningInstaller, names: Sequence[bytes]) -> List[bytes]:
    """Return the paths in these variables."""
    values = (process.environ.get(name) for name in names)
    return [posixpath.join(process.directory, value) for value in values if value]


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
