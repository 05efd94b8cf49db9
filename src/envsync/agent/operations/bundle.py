"""Bundles the agent's modules for an interpreter on a server.

Reading, packing and compressing them takes 0.04 s of processor time, a twentieth of a push that has
nothing to do. Therefore the bundle is cached for the user, on the machine that sends it, with the
status of every file that it was made from. Nothing is stored on servers.
"""

from __future__ import annotations

import contextlib
import json
import marshal
import os
import struct
import threading
import zlib
from importlib.util import MAGIC_NUMBER, cache_from_source
from typing import Dict, Iterator, List, Optional, Tuple

from envsync.agent.server.remembered_file import load, store
from envsync.files.directories import cache_directory

_FILES = ("__init__.py", "errors.py")
_PACKAGES = ("files", "texts", "tree", "conda", "agent")
"""Those of envsync's top directory that are streamed."""

OUR_MAGIC = MAGIC_NUMBER.hex().encode()
"""The bytecode magic of this interpreter, which most servers' interpreters have, too."""

_MAGIC = b"envsync agent 1\n"
_LEVEL = 4
_CACHE_HEAD = struct.Struct("<4sIII")
"""PEP 552: the magic, flags, and the source's mtime in seconds and size, as 32 bits each."""
_WORD = 0xFFFFFFFF

Modules = Dict[str, Tuple[bool, str]]
"""By name: whether the module is a package, and its file."""

_lock = threading.Lock()
_made: Dict[bool, bytes] = {}


def modules(magic: bytes) -> bytes:
    """Return the agent's modules: compiled if that interpreter takes our bytecode, else as text.

    Compiling on the server takes a tenth of a second, which matters when there is nothing to do.
    May be called from any thread: many servers are opened at once.
    """
    is_compiled = magic == OUR_MAGIC
    with _lock:
        if is_compiled not in _made:
            _made[is_compiled] = _remembered(is_compiled)
        return _made[is_compiled]


def _remembered(is_compiled: bool) -> bytes:
    found = dict(_modules())
    path = _remembered_path(is_compiled)
    made_of = _MAGIC + _statuses(found, is_compiled)
    bundle = load(path, made_of)
    if bundle is None:
        bundle = _bundle(found, is_compiled)
        store(path, made_of, bundle)
    return bundle


def _remembered_path(is_compiled: bool) -> Optional[str]:
    directory = cache_directory(os.environ)
    if directory is None:
        return None
    name = f"agent-{OUR_MAGIC.decode() if is_compiled else 'text'}"
    return os.path.join(directory, name)


def _statuses(found: Modules, is_compiled: bool) -> bytes:
    """Return a key that changes with any of the sources and with the interpreter.

    It contains ctimes as well, because some package managers give all files one mtime.
    """
    made_of: List[Tuple[object, ...]] = []
    for _, path in found.values():
        status = os.stat(path)
        times = status.st_mtime_ns, status.st_ctime_ns
        made_of.append((path, status.st_ino, status.st_size, *times))
    return repr((OUR_MAGIC if is_compiled else b"", made_of)).encode()


def _bundle(found: Modules, is_compiled: bool) -> bytes:
    if is_compiled:
        # Each module is marshalled separately, because a push never imports some of them.
        codes = {n: (is_package, _code(n, path)) for n, (is_package, path) in found.items()}
        data = marshal.dumps(codes)
    else:
        texts = {n: (is_package, _text(path)) for n, (is_package, path) in found.items()}
        data = json.dumps(texts).encode()
    packed = zlib.compress(data, _LEVEL)
    return struct.pack("<BI", is_compiled, len(packed)) + packed


def _code(name: str, path: str) -> bytes:
    """Return a module's marshalled code, from this interpreter's own cache if it is there."""
    with contextlib.suppress(OSError):
        status = os.stat(path)
        with open(cache_from_source(path), "rb") as file:
            head, code = file.read(_CACHE_HEAD.size), file.read()
        # With a flag set, the cache is not validated by the source's status.
        current = (MAGIC_NUMBER, 0, int(status.st_mtime) & _WORD, status.st_size & _WORD)
        if len(head) == _CACHE_HEAD.size and _CACHE_HEAD.unpack(head) == current:
            return code
    return marshal.dumps(compile(_text(path), f"<{name}>", "exec", dont_inherit=True))


def _modules() -> Iterator[Tuple[str, Tuple[bool, str]]]:
    """Yield the name of each streamed module, whether it is a package, and its file."""
    top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    paths = [os.path.join(top, name) for name in _FILES]
    for package in _PACKAGES:
        for directory, _, names in os.walk(os.path.join(top, package)):
            paths += [os.path.join(directory, name) for name in names if name.endswith(".py")]
    start = len(os.path.dirname(top)) + 1
    for path in sorted(paths):
        package, _, name = path[start : -len(".py")].replace(os.sep, ".").rpartition(".")
        is_package = name == "__init__"
        yield package if is_package else f"{package}.{name}", (is_package, path)


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()
