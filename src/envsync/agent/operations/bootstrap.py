"""Starting the agent on a server: one fixed command, everything else through stdin.

The command is `exec /bin/sh -c '...'` of fixed ASCII, for the login shell may be csh or
fish. What it reads: a line with the preferred interpreter, a line of Python that loads the
rest, and then the modules themselves. Nothing is stored on the server.
"""

from __future__ import annotations

import contextlib
import functools
import json
import marshal
import os
import struct
import zlib
from importlib.util import MAGIC_NUMBER, cache_from_source
from typing import Iterator, Tuple

STREAMED = ("errors", "tree", "conda", "agent")

# Without `site` (-S), which takes its time and runs what packages of that Python ask for (.pth).
# `read` of a shell takes no byte more than its line from a pipe: the rest is Python's.
COMMAND = (
    "exec /bin/sh -c '"
    "IFS= read -r python && IFS= read -r loader && "
    'if ! [ -x "$python" ]; then python=python3; fi && '
    'if ! command -v "$python" >/dev/null 2>&1; then exit 69; fi && '
    'exec env -i HOME="$HOME" USER="$USER" PATH="$PATH" LANG=C.UTF-8 '
    'XDG_CACHE_HOME="$XDG_CACHE_HOME" XDG_STATE_HOME="$XDG_STATE_HOME" '
    '"$python" -S -I -B -c "$loader"'
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
        if form:
            code = marshal.loads(code)
        else:
            code = compile(code, "<%s>" % module.__name__, "exec", dont_inherit=True)
        exec(code, module.__dict__)
sys.meta_path.insert(0, Finder())
from envsync.agent.operations.process import main
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
    return _bundle(is_compiled=magic == OUR_MAGIC)


OUR_MAGIC = MAGIC_NUMBER.hex().encode()
"""The bytecode magic of this interpreter, which most servers' are of, too."""


@functools.lru_cache(maxsize=None)
def _bundle(*, is_compiled: bool) -> bytes:
    found = dict(_modules())
    if is_compiled:
        # Each as bytes for itself: there are those that a push never imports.
        codes = {n: (is_package, _code(n, path)) for n, (is_package, path) in found.items()}
        data = marshal.dumps(codes)
    else:
        texts = {n: (is_package, _text(path)) for n, (is_package, path) in found.items()}
        data = json.dumps(texts).encode()
    packed = zlib.compress(data, 1)
    return struct.pack("<BI", is_compiled, len(packed)) + packed


def _code(name: str, path: str) -> bytes:
    """A module's code, marshalled: from this interpreter's own cache of it, if it is there."""
    with contextlib.suppress(OSError):
        status = os.stat(path)
        with open(cache_from_source(path), "rb") as file:
            head, code = file.read(_CACHE_HEAD.size), file.read()
        # A flag says that it is to be compared by something else than the source's status.
        current = (MAGIC_NUMBER, 0, int(status.st_mtime) & _WORD, status.st_size & _WORD)
        if len(head) == _CACHE_HEAD.size and _CACHE_HEAD.unpack(head) == current:
            return code
    return marshal.dumps(compile(_text(path), "<%s>" % name, "exec", dont_inherit=True))


_CACHE_HEAD = struct.Struct("<4sIII")
"""PEP 552: the magic, flags, and the source's mtime in seconds and size, as 32 bits each."""
_WORD = 0xFFFFFFFF


def _modules() -> Iterator[Tuple[str, Tuple[bool, str]]]:
    """The name of each streamed module, whether it is a package, and its file."""
    here = os.path.dirname(os.path.abspath(__file__))
    top = os.path.dirname(os.path.dirname(here))
    yield "envsync", (True, os.path.join(top, "__init__.py"))
    for name in STREAMED:
        yield from _module("envsync." + name, os.path.join(top, name))


def _module(name: str, path: str) -> Iterator[Tuple[str, Tuple[bool, str]]]:
    """A module, or a package with all that is in it; `path` is without a suffix."""
    if not os.path.isdir(path):
        yield name, (False, path + ".py")
        return
    yield name, (True, os.path.join(path, "__init__.py"))
    for entry in sorted(os.listdir(path)):
        stem, suffix = os.path.splitext(entry)
        inside = os.path.join(path, stem)
        is_module = suffix == ".py" and stem != "__init__"
        if is_module or os.path.isfile(os.path.join(inside, "__init__.py")):
            yield from _module("%s.%s" % (name, stem), inside)


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()
