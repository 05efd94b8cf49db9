"""Starting the agent on a server: one fixed command, everything else through stdin.

The command is `exec /bin/sh -c '...'` of fixed ASCII, for the login shell may be csh or
fish. What it reads: a line with the preferred interpreter, a line of Python that loads the
rest, and then the modules themselves. Nothing is stored on the server.
"""

from __future__ import annotations

import json
import marshal
import os
import struct
import zlib
from importlib.abc import InspectLoader
from importlib.util import MAGIC_NUMBER, find_spec
from types import CodeType
from typing import Dict, Optional, Tuple, cast

PACKAGES = ("envsync", "envsync.errors", "envsync.tree", "envsync.conda", "envsync.agent")

# `read` of a shell takes no byte more than its line from a pipe: the rest is Python's.
COMMAND = (
    "exec /bin/sh -c '"
    "IFS= read -r python && IFS= read -r loader && "
    'if ! [ -x "$python" ]; then python=python3; fi && '
    'if ! command -v "$python" >/dev/null 2>&1; then exit 69; fi && '
    'exec env -i HOME="$HOME" USER="$USER" PATH="$PATH" LANG=C.UTF-8 '
    'XDG_CACHE_HOME="$XDG_CACHE_HOME" XDG_STATE_HOME="$XDG_STATE_HOME" '
    '"$python" -I -B -c "$loader"'
    "'"
)
_SETTINGS = "exec env -i "
COMMAND_WITH_AGENT = COMMAND.replace(_SETTINGS, _SETTINGS + 'SSH_AUTH_SOCK="$SSH_AUTH_SOCK" ')
"""The same for a session that was lent the user's ssh agent."""
EXIT_NO_PYTHON = 69
EXIT_OLD_PYTHON = 70

_FIRST_LINE = "import sys;sys.version_info>=(3,8) or sys.exit(%d);exec(bytes.fromhex('%s'))"

_LOADER = """\
import importlib.abc, importlib.machinery, json, marshal, os, struct, sys, zlib
from importlib.util import MAGIC_NUMBER
def read(size):
    parts = []
    while size:
        part = os.read(0, size)
        if not part:
            sys.exit(71)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
os.umask(63)
os.write(1, b"\\n" + TOKEN + b"\\n" + MAGIC_NUMBER.hex().encode() + b"\\n")
form, size = struct.unpack("<BI", read(5))
data = zlib.decompress(read(size))
modules = marshal.loads(data) if form else json.loads(data)
class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name in modules:
            package = modules[name][0]
            return importlib.machinery.ModuleSpec(
                name, self, origin="envsync agent", is_package=package
            )
    def exec_module(self, module):
        code = modules[module.__name__][1]
        if not form:
            code = compile(code, "<%s>" % module.__name__, "exec", dont_inherit=True)
        exec(code, module.__dict__)
sys.meta_path.insert(0, Finder())
from envsync.agent.process import main
main()
"""

MAGIC_LINE_BYTES = 9
"""What follows the token: the interpreter's bytecode magic in hex, and a newline."""


def preamble(python: str, token: str) -> bytes:
    """What to write first. `python` is the preferred interpreter's path, without a newline.

    `token` is what the agent says first, between newlines, so that whatever login files
    print can be told from it. After it comes its bytecode magic; `modules` is the reply.
    """
    loader = _LOADER.replace("TOKEN", repr(token.encode("ascii"))).encode()
    return (
        python.encode("utf-8", "surrogateescape")
        + b"\n"
        + (_FIRST_LINE % (EXIT_OLD_PYTHON, loader.hex())).encode()
        + b"\n"
    )


def modules(magic: bytes) -> bytes:
    """The agent's modules: compiled where that interpreter takes our bytecode, else as text.

    Compiling there takes a tenth of a second, which is felt when there is nothing to do.
    """
    same = magic == MAGIC_NUMBER.hex().encode()
    if same not in _cache:
        if same:
            data = zlib.compress(marshal.dumps({name: _compiled(name) for name in _modules()}), 1)
        else:
            data = zlib.compress(json.dumps(_modules()).encode(), 1)
        _cache[same] = struct.pack("<BI", same, len(data)) + data
    return _cache[same]


_cache: Dict[bool, bytes] = {}


def _compiled(name: str) -> Tuple[bool, Optional[CodeType]]:
    """Whether a module is a package, and its code: from this interpreter's own cache of it."""
    spec = find_spec(name)
    assert spec is not None
    loader = cast("InspectLoader", spec.loader)
    return loader.is_package(name), loader.get_code(name)


def _modules() -> Dict[str, Tuple[bool, str]]:
    """Source text of each streamed module by name, and whether it is a package."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found: Dict[str, Tuple[bool, str]] = {}
    for package in PACKAGES:
        path = os.path.join(os.path.dirname(root), *package.split("."))
        if os.path.isdir(path):
            found.update(_package(package, path))
        else:
            found[package] = False, _text(path + ".py")
    return found


def _package(package: str, path: str) -> Dict[str, Tuple[bool, str]]:
    found = {package: (True, _text(os.path.join(path, "__init__.py")))}
    if package == "envsync":
        return found
    for name in sorted(os.listdir(path)):
        stem, suffix = os.path.splitext(name)
        if suffix == ".py" and stem != "__init__":
            found["%s.%s" % (package, stem)] = False, _text(os.path.join(path, name))
    return found


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()
