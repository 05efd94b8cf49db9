"""Starts the agent on a server: one fixed command, everything else through stdin.

The command is `exec /bin/sh -c '...'` of fixed ASCII, because the login shell may be csh or fish.
It reads a line with the preferred interpreter, a line of Python that loads the rest, and then the
modules themselves. Nothing is stored on the server.
"""

from __future__ import annotations

# -S omits `site`, which takes time and runs what packages of that Python ask for (.pth). A shell's
# `read` takes no byte beyond its line from a pipe: the rest is for Python.
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
"""`COMMAND` for a session with access to the user's ssh agent."""
EXIT_NO_PYTHON = 69
EXIT_OLD_PYTHON = 70

_FIRST_LINE = "import sys;sys.version_info>=(3,8) or sys.exit(%d);exec(bytes.fromhex('%s'))"

# The loader writes its first output before it imports anything that is not loaded already: the
# modules are sent while it imports the rest.
_LOADER = """\
import posix, sys
magic = sys.modules["_frozen_importlib_external"].MAGIC_NUMBER
posix.umask(63)
posix.write(1, b"\\n" + TOKEN + b"\\n" + magic.hex().encode() + b"\\n")
import importlib.machinery, json, marshal, os, struct, zlib
def read(size):
    parts = []
    while size:
        part = os.read(0, size)
        if not part:
            sys.exit(71)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
form, size = struct.unpack("<BI", read(5))
data = zlib.decompress(read(size))
modules = marshal.loads(data) if form else json.loads(data)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in modules:
            package = modules[name][0]
            return importlib.machinery.ModuleSpec(
                name, self, origin="envsync agent", is_package=package
            )
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        code = modules[module.__name__][1]
        if form:
            code = marshal.loads(code)
        else:
            code = compile(code, f"<{module.__name__}>", "exec", dont_inherit=True)
        exec(code, module.__dict__)
sys.meta_path.insert(0, Finder())
from envsync.agent.operations.process import main
main()
"""

MAGIC_LINE_BYTES = 9
"""The length of what follows the token: the interpreter's bytecode magic in hex, and a newline."""


def preamble(python: str, token: str) -> bytes:
    """Return what to write first. `python` is the preferred interpreter's path, without a newline.

    `token` is what the agent prints first, between newlines, so that its output can be told from
    what login files print. Its bytecode magic follows; `bundle.modules` is the reply.
    """
    loader = _LOADER.replace("TOKEN", repr(token.encode("ascii"))).encode()
    return (
        python.encode("utf-8", "surrogateescape")
        + b"\n"
        + (_FIRST_LINE % (EXIT_OLD_PYTHON, loader.hex())).encode()
        + b"\n"
    )
