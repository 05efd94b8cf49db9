"""`#!` lines for paths of any length.

Linux took 127 bytes of such a line until 5.1, 255 since, and cuts off the rest in silence;
a blank in the interpreter's path ends it everywhere. pip's way out is a script that is one
of `/bin/sh` and of Python at once. Ours has the path in double quotes, which pip gives only
to a path with a blank: so one that envsync made is known, and can become a plain line again.
"""

from __future__ import annotations

import posixpath
import re
from typing import Callable

LINE_BYTES_MAX = 127

_LINE = re.compile(rb"#![ \t]*(\S+)((?:[ \t][^\n]*)?)(\n|\Z)")
_PYTHON = re.compile(rb"(?:python|pypy)[0-9.]*[a-z]*\Z")
_FOR_SH = re.compile(rb"#!/bin/sh\n'''exec' \"([^\"\n]+)\"([^\n\"]*) \"\$0\" \"\$@\"\n' '''\n")
# What `env -S` takes as it is.
_PLAIN = re.compile(rb"[A-Za-z0-9_./=,:+@%-]+")
_SH_BYTES_MAX = 1 << 16


def end(content: bytes) -> int:
    """How many bytes of a file are its `#!` line; 0 where it has none."""
    if not content.startswith(b"#!"):
        return 0
    for_sh = _FOR_SH.match(content[:_SH_BYTES_MAX])
    if for_sh:
        return for_sh.end()
    newline = content.find(b"\n")
    return len(content) if newline < 0 else newline + 1


def relocated(line: bytes, replaced: Callable[[bytes], bytes]) -> bytes:
    """A `#!` line with its paths replaced, in the form that the kernel can take.

    A line in our form for `/bin/sh` becomes a plain one again where that fits.
    """
    plain = replaced(line)
    if plain == line:
        return line
    for_sh = _FOR_SH.fullmatch(line)
    if for_sh:
        interpreter, options = map(replaced, for_sh.groups())
        short = b"#!" + interpreter + options + b"\n"
        return short if _fits(interpreter, short) else plain
    parsed = _LINE.fullmatch(line)
    if parsed is None:
        return plain
    interpreter, options = replaced(parsed.group(1)), replaced(parsed.group(2))
    if _fits(interpreter, plain) or interpreter == parsed.group(1):
        return plain  # what only hands on a path has no other form
    if _PYTHON.match(posixpath.basename(interpreter)):
        return b"#!/bin/sh\n'''exec' \"%s\"%s \"$0\" \"$@\"\n' '''\n" % (interpreter, options)
    # As conda does it: whatever is first of that name in PATH.
    return b"#!/usr/bin/env " + _for_env(posixpath.basename(interpreter), options) + parsed.group(3)


def _for_env(name: bytes, options: bytes) -> bytes:
    """A program and its options; they are one argument, as they are behind `#!`."""
    argument = options.strip(b" \t\r")
    if not argument:
        return name
    if not _PLAIN.fullmatch(argument):
        argument = b"'" + argument.replace(b"\\", b"\\\\").replace(b"'", b"\\'") + b"'"
    return b"-S " + name + b" " + argument


def _fits(interpreter: bytes, line: bytes) -> bool:
    return b" " not in interpreter and len(line) <= LINE_BYTES_MAX
